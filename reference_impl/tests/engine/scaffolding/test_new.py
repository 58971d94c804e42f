"""`new` writes what works as it stands, refuses to overwrite, and never damages project.py."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.scaffolding import module_tests, writing
from reference_reasoner.engine.scaffolding.module_tests import (
    captured_calls,
    expression,
    module_path,
    new_tests,
)
from reference_reasoner.engine.scaffolding.modules import new_data, new_model, new_task
from reference_reasoner.engine.scaffolding.project_entry import enter, entries
from reference_reasoner.engine.scaffolding.writing import (
    PACKAGE,
    check_name,
    class_name,
    write_all,
)
from reference_reasoner.engine.training.task import Task

from ..toy.command_line import CommandLine, contents
from ..toy.task import ToyTask, toy

ROOT = Path(__file__).resolve().parents[3]
PROJECT = '''"""Names."""

TASKS: dict[str, str] = {
    "old": ".tasks.old:OldTask",
}
"""The first is the default."""

PRESETS: dict[str, str] = {
    "default": "old",
}
COMMANDS: dict[str, tuple[str, str]] = {}
'''


@pytest.fixture
def source(project: Path) -> Path:
    """A copy of the package in a project, with another project.py."""
    folder = project / "src" / PACKAGE
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(writing.__file__).parents[1], folder, ignore=ignored)
    (folder / "project.py").write_text(PROJECT)
    return folder


# --- What is written works --------------------------------------------------------------------


def run(project: Path, *words: str, code: int = 0) -> str:
    """A module of Python in the project, on the project's own copy of the package."""
    # it is a copy of the package that runs there, and its coverage would count as another file's
    variables = {k: v for k, v in os.environ.items() if not k.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=project,
        env={**variables, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def linted(project: Path) -> None:
    """Formatter and linter are content, where they are installed."""
    if importlib.util.find_spec("ruff") is not None:
        shutil.copy(ROOT / "pyproject.toml", project)
        run(project, "ruff", "format", "--no-cache", "--check", ".")
        run(project, "ruff", "check", "--no-cache", ".")


def test_a_project_grows_a_task_that_works(source: Path) -> None:
    project = source.parents[1]
    lines = [line for line in PROJECT.splitlines(keepends=True) if "old" not in line]
    (source / "project.py").write_text("".join(lines))
    (project / "tests").mkdir()
    (project / "tests/__init__.py").touch()
    shutil.copy(ROOT / "tests/conftest.py", project / "tests")
    run(project, PACKAGE, "new", "data", "grown")
    run(project, PACKAGE, "new", "model", "grown_net")
    said = run(project, PACKAGE, "new", "task", "grown", "--data", "grown", "--model", "grown_net")
    assert "project.py (the task and its presets)" in said
    linted(project)
    pytest_quiet = ("pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.")
    assert " passed" in run(project, *pytest_quiet, "tests")
    (project / "tests/models/test_grown_net.py").unlink()
    run(project, PACKAGE, "new", "tests", "models.grown_net")
    linted(project)
    assert "4 passed" in run(project, *pytest_quiet, "tests/models")
    run(project, PACKAGE, "new", "tests", "models.grown_net", code=2)


@pytest.mark.parametrize("name", ["a", "with_a_name_as_long_as24"])
def test_names_of_every_length(source: Path, name: str) -> None:
    new_data(name)
    new_model(name)
    said = new_task(name, name, name)
    written = [line for line in said if line.startswith(("src", "tests"))]
    assert written == [
        f"src/{PACKAGE}/tasks/{name}.py",
        f"tests/tasks/test_{name}.py",
        f"src/{PACKAGE}/project.py (the task and its presets)",
    ]
    linted(source.parents[1])


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "Upper", "two words", "1st", "class", "match", "splits", "a__b", "a_", "x" * 25]
)
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(RefusedInputError, match="cannot be the name of a module"):
        check_name(name)


def test_nothing_is_overwritten_and_nothing_is_half_written(source: Path) -> None:
    project = source.parents[1]
    test = project / "tests/data/test_mine.py"
    test.parent.mkdir(parents=True)
    test.write_text("mine\n")
    before = contents(project)
    with pytest.raises(RefusedInputError, match=r"tests/data/test_mine\.py is there already"):
        new_data("mine")
    assert contents(project) == before
    with pytest.raises(SyntaxError):
        write_all({project / "one.py": "pass\n", project / "two.py": "no python"})
    assert contents(project) == before


def test_a_task_needs_its_data_and_model(source: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"no data/mine\.py: write it first, with `new da"):
        new_task("mine", "mine", "mine")
    new_data("mine")
    with pytest.raises(RefusedInputError, match=r"no models/mine\.py: write .* `new model mine`"):
        new_task("mine", "mine", "mine")
    with pytest.raises(RefusedInputError, match=r"no data/mime\.py; did you mean mine\?"):
        new_task("mine", "mime", "mine")


def test_outside_of_a_project_nothing_is_written(project: Path) -> None:
    with pytest.raises(RefusedInputError, match="is no project of"):
        new_model("mine")


def test_the_command(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = CommandLine(source.parents[1], capsys)
    assert f"src/{PACKAGE}/data/mine.py" in line.done("new", "data", "mine")
    assert f"src/{PACKAGE}/models/mine.py" in line.done("new", "model", "mine")
    assert "train --preset mine_smoke" in line.done("new", "task", "mine")
    assert "--data and --model are of `new task`" in line.refused(
        "new", "model", "b", "--data", "mine"
    )
    assert "invalid choice" in line.refused("new", "thing", "b")
    assert "does not run when the model of toy" in line.refused("new", "tests", "models.mine")


# --- project.py -------------------------------------------------------------------------------


def test_a_task_is_entered_behind_the_others(source: Path) -> None:
    path = source / "project.py"
    assert enter(path, entries("mine", "Mine"))
    old, new = PROJECT.splitlines(), path.read_text().splitlines()
    assert [line for line in new if line not in old] == [
        '    "mine": ".tasks.mine:MineTask",',
        '    "mine": "mine",',
        '    "mine_smoke": "mine",',
    ]
    assert [line for line in new if line in old] == old
    assert [line for line in new if line.startswith("    ")].index('    "mine": "mine",') == 3


@pytest.mark.parametrize(
    "edited",
    [
        PROJECT.replace('{\n    "old": ".tasks.old:OldTask",\n}', '{"old": ".tasks.old:OldTask"}'),
        PROJECT.replace('"default": "old",', '**{"default": "old"},'),
        PROJECT.replace("PRESETS", "NAMES"),
        PROJECT + "def broken(:\n",
        PROJECT.replace('    "default": "old",\n}', '    "default": "old"\n}'),
    ],
    ids=["one line", "computed", "renamed", "no python", "no last comma"],
)
def test_an_edited_project_py_is_left_alone(source: Path, edited: str) -> None:
    path = source / "project.py"
    path.write_text(edited)
    assert not enter(path, entries("mine", "Mine"))
    assert path.read_text() == edited


def test_then_the_lines_to_add_are_said(source: Path) -> None:
    (source / "project.py").write_text("TASKS = {}\n")
    new_data("mine")
    new_model("mine")
    said = "\n".join(new_task("mine", "mine", "mine"))
    assert "whose dicts could not be edited:" in said
    assert '  TASKS: "mine": ".tasks.mine:MineTask",' in said
    assert '  PRESETS: "mine_smoke": "mine",' in said
    assert (source / "project.py").read_text() == "TASKS = {}\n"


def test_class_names() -> None:
    assert class_name("a_b2_long") == "AB2Long"


# --- Tests of an existing module --------------------------------------------------------------


class Inner(nn.Module):
    """(x, times, mask) -> {"out": x}; called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Tensor, times: int, *, scale: float = 1.0) -> dict[str, Tensor]:
        return {"out": self.linear(x) * times * scale}


class Outer(nn.Module):
    """Tokens -> numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 3)
        self.parts = nn.ModuleList([Inner(), Inner()])
        self.demanding = Demanding()

    def forward(self, token: Tensor) -> Tensor:
        hidden = self.embed(token)
        for part in self.parts:
            hidden = part(hidden, times=2)["out"]
        return self.demanding(x=hidden)


class Demanding(nn.Module):
    """Cannot be called with positions alone."""

    def forward(self, *, x: Tensor) -> Tensor:
        return x


class OuterTask(Task[Any]):
    """Its model has modules of one's own."""

    name = "outer"

    def build_model(self) -> nn.Module:
        return Outer()

    def example_input(self) -> tuple[Tensor]:
        return (torch.tensor([[6, 0, 2]]),)


@pytest.fixture
def mine(source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the project in which these classes stand."""
    path = source / "models" / "mine.py"
    path.write_text('"""Mine."""\n')
    for kind in (Inner, Outer, Demanding):
        monkeypatch.setattr(kind, "__module__", f"{PACKAGE}.models.mine")
    return path


def test_the_first_call_of_each_class_is_captured(mine: Path) -> None:
    found = captured_calls(OuterTask(toy()), f"{PACKAGE}.models.mine")
    calls = {call.class_name: call for call in found}
    assert set(calls) == {"Inner", "Outer"}
    assert calls["Inner"].path == "parts.0"
    assert calls["Inner"].shapes == [(1, 3, 3)]
    assert [expression(argument) for argument in calls["Inner"].arguments] == [
        "floats(1, 3, 3)",
        "2",
    ]
    assert [expression(argument) for argument in calls["Outer"].arguments] == [
        "integers(0, 6, 1, 3)"
    ]
    assert all(call.learns for call in calls.values())


def test_the_tests_are_python_and_name_the_task(mine: Path) -> None:
    tasks = {"toy": ("smoke", ToyTask(toy())), "outer": ("default", OuterTask(toy()))}
    said = new_tests("models.mine", tasks)
    assert said[0] == "tests/models/test_mine.py"
    text = Path(said[0]).read_text()
    assert 'TASK = "outer"\nPRESET = "default"' in text
    names: dict[str, Any] = {}
    exec(compile(text, "test_mine.py", "exec"), names)
    assert {case[0] for case in names["CASES"]} == {"", "parts.0"}
    x, times = names["input_of_inner"]()
    assert (tuple(x.shape), times) == ((1, 3, 3), 2)
    (token,) = names["input_of_outer"]()
    assert token.dtype == torch.int64
    assert token.max() <= 6
    linted(mine.parents[3])


def test_a_module_may_be_named_in_three_ways(mine: Path) -> None:
    for name in (
        "models.mine",
        f"{PACKAGE}.models.mine",
        "models/mine.py",
        f"src/{PACKAGE}/models/mine.py",
    ):
        assert module_path(name) == mine
    for name in ("models.other", "tests", str(ROOT / "noxfile.py")):
        with pytest.raises(RefusedInputError, match="there is no module"):
            module_path(name)


def test_a_task_without_an_input_is_refused(mine: Path) -> None:
    silent = type("Silent", (OuterTask,), {"example_input": Task.example_input})
    with pytest.raises(RefusedInputError, match=r"has no example_input\(\): write it first"):
        new_tests("models.mine", {"silent": ("default", silent(toy()))})


def test_values_as_python() -> None:
    half = torch.zeros(2, dtype=torch.float16)
    assert expression((half, [1.5, None], {"a": True, "b": "text"})) == (
        '(floats(2, dtype=torch.float16), [1.5, None], {"a": True, "b": \'text\'},)'
    )
    assert (
        expression(torch.zeros(0, 2, dtype=torch.int32))
        == "integers(0, 0, 0, 2, dtype=torch.int32)"
    )
    with pytest.raises(RefusedInputError, match="is a object, which no test can be written with"):
        expression(object())
    assert module_tests.tensors_in((half,)) == [half]
