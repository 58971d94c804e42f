"""Imports go one way, none goes round, modules stay small, and `--help` does not wait for torch.

The engine imports nothing of the project. Each of its parts may import those that stand before it
in `LAYERS`; parts in one line do not know each other. A task's folder imports the engine, itself
and `shared/`; its model files import torch, the standard library and other model files.
"""

import ast
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import reference_reasoner as package

PACKAGE = Path(str(package.__file__)).parent
NAME = package.__name__
ENGINE = (NAME, "engine")
LAYERS = (
    ("errors",),
    ("seeding", "atomic_write"),
    ("config",),
    ("project",),
    ("data",),
    ("tracking",),
    ("training",),
    ("evaluation", "profiling"),
    ("verification", "studies"),
    ("scaffolding",),
    ("commands",),
    ("command_line",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
ENTRY = {"__init__", "__main__"}
MODULES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
TASKS = FOLDERS - {"engine", "shared"}
MOST_LINES = 350
HEAVY = {"torch", "numpy", "matplotlib", "sklearn", "tyro", "safetensors", "tensorboard"}
FOR_KERNELS = {"triton", "fla"}
NOT_FOR_MODELS = ("torch.optim", "torch.utils.data", "torch.distributed")
Module = tuple[str, ...]


def imported_modules(source: str, module: Module) -> list[Module]:
    """Every module that `source`, the text of `module`, names in an import, as its parts.

    What `from a import b` takes may be a module too, so it counts as `a.b`.
    """
    found: list[Module] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found += [(*base, alias.name) for alias in node.names]
    return found


def parts_of(path: Path) -> Module:
    """The dotted name of the module at `path`; a package's own code is its `__init__`."""
    return (NAME, *path.relative_to(PACKAGE).with_suffix("").parts)


def is_model(module: Module) -> bool:
    """Whether a module of a task's folder is a model file."""
    return len(module) > 2 and module[1] in TASKS and module[2] in {"model", "models"}


def may_import(module: Module, target: Module) -> bool:
    """Whether `module` may import `target`, another module of the package or one of no package."""
    own, other = module[1], target[1] if len(target) > 1 else ""
    if target[0] != NAME:
        kernels = FOR_KERNELS if module[-1].endswith("_cuda") else set()
        allowed = {"torch"} | kernels | sys.stdlib_module_names
        dotted = ".".join(target)
        return not is_model(module) or (
            target[0] in allowed and not dotted.startswith(NOT_FOR_MODELS)
        )
    if own in ENTRY:
        return True
    if own == "project":
        return False
    if is_model(module):
        return other == "shared" or (other == own and is_model(target))
    if own != "engine":
        return other in {own, "engine", "shared"}
    if other != "engine" or len(target) < 3:
        return other == "engine"
    inner, below = module[2], target[2]
    if inner == below or inner == "__init__":
        return True
    return RANK.get(below, len(LAYERS)) < RANK.get(inner, -1)


def wrong_imports(source: str, module: Module) -> list[str]:
    """The imports of `module` that it may not have."""
    return [
        f"{'.'.join(module)} imports {'.'.join(target)}"
        for target in imported_modules(source, module)
        if not may_import(module, target)
    ]


def imports_within(paths: list[Path]) -> dict[str, set[str]]:
    """{file: the files that it imports}, imports inside functions included."""
    files = {parts_of(path): _name(path) for path in paths}
    graph: dict[str, set[str]] = {}
    for path in paths:
        module = parts_of(path)
        targets = imported_modules(path.read_text(encoding="utf-8"), module)
        found = {files.get(target) or files.get(target[:-1]) for target in targets}
        graph[_name(path)] = {each for each in found if each is not None}
    return graph


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_all_parts_are_there() -> None:
    assert {parts_of(path)[2] for path in MODULES if parts_of(path)[:2] == ENGINE} == {
        *RANK,
        "__init__",
    }


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down(path: Path) -> None:
    assert wrong_imports(path.read_text(encoding="utf-8"), parts_of(path)) == []


def test_no_import_goes_round() -> None:
    tuple(TopologicalSorter(imports_within(MODULES)).static_order())


def test_a_circle_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    texts = {"a": "def f():\n    from . import b", "b": "from .c import x", "c": "import os"}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    graph = imports_within(sorted(tmp_path.glob("*.py")))
    assert graph == {"a.py": {"b.py"}, "b.py": {"c.py"}, "c.py": set()}
    (tmp_path / "c.py").write_text("from .a import f")
    with pytest.raises(CycleError):
        tuple(TopologicalSorter(imports_within(sorted(tmp_path.glob("*.py")))).static_order())


@pytest.fixture
def in_a_project(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], list[str]]:
    """`wrong_imports` in a package that has the task folders `mine` and `other`."""
    monkeypatch.setattr(sys.modules[__name__], "TASKS", {"mine", "other"})
    return lambda module, source: wrong_imports(
        source.replace("NAME", NAME), (NAME, *module.split("."))
    )


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.errors", "from . import seeding"),
        ("engine.config.fields", "from ..training import task"),
        ("engine.data.splits", "from ...mine.model import Model"),
        ("engine.data.splits", "from ... import project"),
        ("engine.training.step", "def f():\n    from ..evaluation.evaluate import evaluate_run"),
        ("engine.training.step", "import NAME.engine.evaluation.evaluate"),
        ("engine.training.step", "from NAME.engine.command_line import run_command"),
        ("engine.evaluation.report", "from ...project import TASKS"),
        ("engine.profiling.bench", "from ..commands.parser import Parser"),
        ("engine.profiling.bench", "from ..evaluation import html"),
        ("engine.training.step", "from ..new_part import x"),
        ("mine.task", "from ..other.data import x"),
        ("mine.task", "from ..project import TASKS"),
        ("mine.model", "from ..engine.config.fields import require"),
        ("mine.model", "from .data import x"),
        ("mine.models.block", "import numpy"),
        ("mine.models.block", "from torch.optim import AdamW"),
        ("mine.models.block", "import triton"),
        ("shared.layers", "from ..mine.model import Model"),
        ("project", "from . import engine"),
    ],
)
def test_an_import_that_goes_up_is_noticed(
    in_a_project: Callable[[str, str], list[str]], module: str, source: str
) -> None:
    assert len(in_a_project(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.config.sources", "from .fields import require"),
        ("engine.training.step", "from . import parallel\nfrom .task import Task\nimport torch"),
        ("engine.training.__init__", "from .task import Task"),
        ("engine.command_line", "from .commands.train import main\nfrom . import errors"),
        ("mine.task", "from ..engine.training.task import Task\nfrom ..shared import layers"),
        ("mine.task", "from .model import Model\nimport numpy"),
        ("mine.model", "from ..shared.layers import Norm\nimport math\nfrom torch import nn"),
        ("mine.models.block", "from .layers.norm import Norm\nfrom ..model import x"),
        ("mine.models.scan_cuda", "import triton"),
        ("__main__", "from . import project\nfrom .engine.command_line import run_command"),
    ],
)
def test_an_import_that_goes_down_is_fine(
    in_a_project: Callable[[str, str], list[str]], module: str, source: str
) -> None:
    assert in_a_project(module, source) == []


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", NAME, "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert f"{NAME}.engine.command_line" in imported
    assert "usage:" in answer.stdout
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


@pytest.mark.parametrize(("call", "frozen"), [("main()", True), ("main(['-h'])", False)])
def test_a_process_does_not_look_for_garbage_at_its_end(call: str, frozen: bool) -> None:
    script = (
        "import atexit, gc, importlib, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "main = importlib.import_module(sys.argv.pop(1) + '.__main__').main\n"
        f"{call}\n"
    )
    command = [sys.executable, "-c", script, NAME, "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == str(frozen)


def test_commands_that_do_not_need_torch_do_not_import_it(project: Path) -> None:
    script = (
        "import importlib, sys\n"
        "main = importlib.import_module(sys.argv[1] + '.__main__').main\n"
        "for words in ('evaluate -h', 'report -h', 'profile -h', 'study -h', 'runs', 'zzz'):\n"
        "    main(words.split())\n"
        "print(sorted(sys.modules))\n"
    )
    command = [sys.executable, "-c", script, NAME]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = ast.literal_eval(answer.stdout.splitlines()[-1])
    assert f"{NAME}.engine.tracking.run_directory" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
