"""The reasoner's models stand in layers: equations below, what makes them fast above, who chooses
on top, and what serves trained models last."""

from pathlib import Path

import pytest

import reference_reasoner.reasoner.models as models

from ...engine.test_layers import imported_modules, parts_of

FOLDER = Path(str(models.__file__)).parent
LAYERS = (
    ("layers.compile_time", "layers.initial_weights", "layers.stablemax", "layers.twin_check"),
    ("layers.document_layout", "layers.projection", "layers.triton_support"),
    ("layers.feed_forward", "layers.short_convolution"),
    ("attention.rotary", "attention.window_mask"),
    ("attention.flex",),
    ("attention.window_attention",),
    ("attention.attention",),
    ("memory.config", "memory.features", "memory.heads", "memory.solve", "memory.state"),
    ("memory.gates",),
    ("memory.sequential", "memory.written"),
    ("memory.linear", "memory.sets"),
    ("memory.deep",),
    ("memory.cpu",),
    ("memory.native",),
    ("memory.gpu",),
    ("memory.chunk_operator",),
    ("memory.routes",),
    ("memory.scan",),
    ("memory.scan_apart",),
    ("memory.neural_memory",),
    ("memory.queries", "memory.surprise"),
    ("block_cache", "act_head"),
    ("trm_wrapper",),
    ("titans_mag",),
    ("backbone",),
    ("full_model",),
    ("serving",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
ROOMS = {rank for name, rank in RANK.items() if FOLDER.joinpath(*name.split(".")).is_dir()}
FILES = sorted(path for path in FOLDER.rglob("*.py") if path.name != "__init__.py")


def layer_of(module: tuple[str, ...]) -> int | None:
    """The rank of a module below models/, by its longest name in LAYERS; None for others."""
    base = parts_of(FOLDER / "__init__.py")[:-1]
    if module[: len(base)] != base:
        return None
    inner = module[len(base) :]
    for length in range(len(inner), 0, -1):
        if ".".join(inner[:length]) in RANK:
            return RANK[".".join(inner[:length])]
    return None


def wrong_imports(source: str, module: tuple[str, ...]) -> list[str]:
    """The imports of a model's module that do not go down; within one room all go."""
    own = layer_of(module)
    found = []
    for target in imported_modules(source, module):
        other = layer_of(target)
        if own is None or other is None or (other == own and own in ROOMS):
            continue
        if other >= own:
            found.append(f"{'.'.join(module)} imports {'.'.join(target)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_imports_go_down(path: Path) -> None:
    assert layer_of(parts_of(path)) is not None
    assert wrong_imports(path.read_text(encoding="utf-8"), parts_of(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("memory.linear", "from .gpu.linear_launch import sums_for"),
        ("memory.linear", "def f():\n    from .routes import scan_linear"),
        ("memory.cpu.chunks", "from ..routes import scan_linear"),
        ("memory.gpu.linear_launch", "from ..neural_memory import NeuralMemory"),
        ("layers.triton_support", "from ..serving import fused_step"),
        ("attention.flex", "from .window_attention import attend"),
        ("titans_mag", "from .full_model import RecursiveReasoner"),
    ],
)
def test_an_import_that_goes_up_is_noticed(module: str, source: str) -> None:
    base = parts_of(FOLDER / "__init__.py")[:-1]
    assert len(wrong_imports(source, (*base, *module.split(".")))) == 1
