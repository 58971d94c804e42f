"""Imports go one way, modules stay small, and `--help` does not wait for torch.

Each part of the package may import those that stand before it in `LAYERS`; parts in one line
do not know each other. A part of your own that stands in none of the lines may import what it
likes, and none of these may import it: give it a line where one should.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from reference_reasoner import errors

PACKAGE = Path(errors.__file__).parent
NAME = str(errors.__package__)
LAYERS = (
    ("errors",),
    ("paths",),
    ("seeding",),
    ("config_fields",),
    ("config",),
    ("data", "models"),
    ("tracking",),
    ("training",),
    ("evaluation", "profiling"),
    ("verification", "studies"),
    ("scaffolding",),
    ("tasks",),
    ("project",),
    ("loading",),
    ("cli_config",),
    ("train_config",),
    ("command_line",),
    ("commands",),
    ("cli",),
    ("__init__", "__main__"),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
# started by `python -m`, so it finds its task by itself, as a command does
ENTRY_POINTS = {("profiling", "gpu_bench")}
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 250
HEAVY = {"torch", "numpy", "matplotlib", "sklearn", "tyro", "safetensors", "tensorboard"}
NOT_FOR_MODELS = ("torch.optim", "torch.utils.data", "torch.distributed")


def imported_modules(source: str, module: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every module that `source`, the text of `module`, names in an import, as its parts.

    What `from a import b` takes may be a module too, so it counts as `a.b`.
    """
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: len(module) - node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            found += [(*base, alias.name) for alias in node.names]
    return found


def parts_of(path: Path) -> tuple[str, ...]:
    """The dotted name of the module at `path`; a package's own code is its `__init__`."""
    return (NAME, *path.relative_to(PACKAGE).with_suffix("").parts)


def wrong_imports(source: str, module: tuple[str, ...]) -> list[str]:
    """The imports of `module` that do not go down."""
    own = "commands" if module[1:] in ENTRY_POINTS else module[1]
    wrong = []
    for target in imported_modules(source, module):
        if target[0] != NAME or len(target) == 1:
            continue
        other = target[1]
        if other == own and own in RANK and len(module) > 2:
            continue  # within one folder
        above = RANK.get(other, len(LAYERS)) >= RANK.get(own, len(LAYERS) + 1)
        if above and (PACKAGE / other).with_suffix(".py").exists() | (PACKAGE / other).is_dir():
            wrong.append(f"{'.'.join(module)} imports {'.'.join(target)}")
    return wrong


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_all_parts_are_there() -> None:
    present = {parts_of(path)[1] for path in MODULES}
    assert set(RANK) <= present


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_go_down(path: Path) -> None:
    assert wrong_imports(path.read_text(encoding="utf-8"), parts_of(path)) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("config", "from .training import task"),
        ("errors", "from . import paths"),
        ("data.splits", "from ..models.residual import x"),
        ("data.splits", "from .. import models"),
        ("models.residual", "from ..data import dataset"),
        ("training.step", "def f():\n    from ..evaluation.evaluate import evaluate_run"),
        ("training.step", "import NAME.evaluation.evaluate"),
        ("training.step", "from NAME.cli import main"),
        ("evaluation.report", "from ..project import TASKS"),
        ("loading", "from .cli import main"),
        ("profiling.gpu_bench", "from ..cli import main"),
        ("profiling.profile", "from ..loading import load_task_type"),
        ("profiling.table", "from ..evaluation import html"),
    ],
)
def test_an_import_that_goes_up_is_noticed(module: str, source: str) -> None:
    parts = (NAME, *module.split("."))
    assert len(wrong_imports(source.replace("NAME", NAME), parts)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("config", "from .config_fields import require"),
        ("training.step", "from . import parallel\nfrom .task import Task\nimport torch"),
        ("training.__init__", "from .task import Task"),
        ("cli", "from .training.session import train\nfrom . import errors"),
        ("profiling.gpu_bench", "from ..loading import load_task_type"),
        ("something_new", "from .cli import main"),
    ],
)
def test_an_import_that_goes_down_is_fine(module: str, source: str) -> None:
    assert wrong_imports(source, (NAME, *module.split("."))) == []


def test_project_imports_nothing() -> None:
    source = (PACKAGE / "project.py").read_text(encoding="utf-8")
    assert imported_modules(source, (NAME, "project")) == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").rglob("*.py")), ids=_name)
def test_models_import_torch_and_the_standard_library_only(path: Path) -> None:
    others = {"torch", "triton", "fla"} if path.name.endswith("_cuda.py") else {"torch"}
    for target in imported_modules(path.read_text(encoding="utf-8"), parts_of(path)):
        within = target[:2] == (NAME, "models")
        assert within or target[0] in others | sys.stdlib_module_names, target
        assert not ".".join(target).startswith(NOT_FOR_MODELS), target


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", NAME, "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert f"{NAME}.cli" in imported
    assert "usage:" in answer.stdout
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()


@pytest.mark.parametrize(("call", "frozen"), [("main()", True), ("main(['-h'])", False)])
def test_a_process_does_not_look_for_garbage_at_its_end(call: str, frozen: bool) -> None:
    script = (
        "import atexit, gc, importlib, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
        "main = importlib.import_module(sys.argv.pop(1) + '.cli').main\n"
        f"{call}\n"
    )
    command = [sys.executable, "-c", script, NAME, "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == str(frozen)


def test_commands_that_do_not_need_torch_do_not_import_it(project: Path) -> None:
    script = (
        "import importlib, sys\n"
        "main = importlib.import_module(sys.argv[1] + '.cli').main\n"
        "for words in ('evaluate -h', 'report -h', 'profile -h', 'study -h', 'runs', 'zzz'):\n"
        "    main(words.split())\n"
        "print(sorted(sys.modules))\n"
    )
    command = [sys.executable, "-c", script, NAME]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = ast.literal_eval(answer.stdout.splitlines()[-1])
    assert f"{NAME}.tracking.runs_table" in imported
    assert {name.partition(".")[0] for name in imported} & HEAVY == set()
