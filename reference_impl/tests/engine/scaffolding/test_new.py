"""`new` writes what works as it stands, refuses to overwrite, and never damages project.py."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.scaffolding import module_tests, task_folder
from reference_reasoner.engine.scaffolding.module_tests import (
    captured_calls,
    expression,
    module_path,
    new_tests,
)
from reference_reasoner.engine.scaffolding.task_folder import (
    PACKAGE,
    check_name,
    class_name,
    enter,
    entries,
    new_file,
    new_task,
    write_all,
)
from reference_reasoner.engine.training.task import Task

from ..toy.command_line import TOY, CommandLine, contents
from ..toy.task import ToyTask, toy

ROOT = Path(__file__).resolve().parents[3]
PROJECT = '''"""Names."""

TASKS: dict[str, str] = {
    "old": ".old.task:OldTask",
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
    shutil.copytree(Path(task_folder.__file__).parents[2], folder, ignore=ignored)
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


def empty_project(source: Path) -> Path:
    """A project without a task."""
    project = source.parents[1]
    lines = [
        '"""Names."""\n',
        "TASKS: dict[str, str] = {}",
        "PRESETS: dict[str, str] = {}",
        "BENCHED: str | None = None",
        "COMMANDS: dict[str, tuple[str, str]] = {}\n",
    ]
    (source / "project.py").write_text("\n".join(lines))
    (project / "tests").mkdir()
    (project / "tests/__init__.py").touch()
    shutil.copy(ROOT / "tests/conftest.py", project / "tests")
    return project


def test_a_project_grows_a_task_that_works(source: Path) -> None:
    project = empty_project(source)
    said = run(project, PACKAGE, "new", "task", "grown")
    assert "project.py (the task and its presets)" in said
    linted(project)
    pytest_quiet = ("pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir=.")
    assert " passed" in run(project, *pytest_quiet, "tests")
    shown = run(project, PACKAGE, "train", "--print-config")  # the first task is the default
    assert "preset default" in shown
    (project / "tests/grown/test_model.py").unlink()
    run(project, PACKAGE, "new", "tests", "grown.model")
    run(project, PACKAGE, "new", "data", "grown.more")
    run(project, PACKAGE, "new", "model", "grown.other_net")
    linted(project)
    assert " passed" in run(project, *pytest_quiet, "tests")
    run(project, PACKAGE, "new", "tests", "grown.model", code=2)


@pytest.mark.parametrize("name", ["a", "with_a_name_as_long_as24"])
def test_names_of_every_length(source: Path, name: str) -> None:
    said = new_task(TOY, name)
    written = [line for line in said if line.startswith(("src", "tests"))]
    assert written == [
        f"src/{PACKAGE}/{name}/__init__.py",
        f"src/{PACKAGE}/{name}/data.py",
        f"tests/{name}/test_data.py",
        f"src/{PACKAGE}/{name}/model.py",
        f"tests/{name}/test_model.py",
        f"src/{PACKAGE}/{name}/task.py",
        f"tests/{name}/test_task.py",
        f"src/{PACKAGE}/project.py (the task and its presets)",
    ]
    assert (source.parents[1] / "tests" / name / "__init__.py").is_file()
    assert new_file("data", f"{name}.{name}")[:2] == [
        f"src/{PACKAGE}/{name}/{name}.py",
        f"tests/{name}/test_{name}.py",
    ]
    linted(source.parents[1])


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "Upper", "two words", "1st", "class", "match", "a__b", "a_", "x" * 25]
)
def test_a_name_that_cannot_be_one(name: str) -> None:
    with pytest.raises(RefusedInputError, match="cannot be the name of a module"):
        check_name(name)


@pytest.mark.parametrize("name", ["engine", "shared", "project", "tests"])
def test_a_name_that_the_project_has(source: Path, name: str) -> None:
    before = contents(source.parents[1])
    for write in (lambda: new_task(TOY, name), lambda: new_file("data", name)):
        with pytest.raises(RefusedInputError, match=rf"{name}"):
            write()
    assert contents(source.parents[1]) == before


def test_nothing_is_overwritten_and_nothing_is_half_written(source: Path) -> None:
    project = source.parents[1]
    new_task(TOY, "mine")
    (source / "mine/data.py").unlink()
    before = contents(project)
    with pytest.raises(RefusedInputError, match=r"mine is there already: take another name, or a"):
        new_task(TOY, "mine")
    with pytest.raises(RefusedInputError, match=r"tests/mine/test_data\.py is there already"):
        new_file("data", "mine")
    assert contents(project) == before
    with pytest.raises(SyntaxError):
        write_all({project / "one.py": "pass\n", project / "two.py": "no python"})
    assert contents(project) == before


def test_data_and_models_go_into_a_folder_that_is_there(source: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"/mine: `new task mine` writes one"):
        new_file("data", "mine")
    new_task(TOY, "mine")
    with pytest.raises(RefusedInputError, match=r"no task's folder .*/mime; did you mean mine\?"):
        new_file("model", "mime.other")
    with pytest.raises(RefusedInputError, match="'Other' cannot be the name of a module"):
        new_file("model", "mine.Other")
    assert new_file("model", "mine.other")[0] == f"src/{PACKAGE}/mine/other.py"
    assert "class OtherModel(" in (source / "mine/other.py").read_text()


def test_outside_of_a_project_nothing_is_written(project: Path) -> None:
    with pytest.raises(RefusedInputError, match="is no project of"):
        new_task(TOY, "mine")


def test_the_command(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = CommandLine(source.parents[1], capsys)
    assert "train --preset mine_smoke" in line.done("new", "task", "mine")
    assert f"src/{PACKAGE}/mine/more.py" in line.done("new", "data", "mine.more")
    assert f"src/{PACKAGE}/mine/net.py" in line.done("new", "model", "mine.net")
    assert "unknown argument --data" in line.refused("new", "model", "b", "--data", "mine")
    assert "invalid choice" in line.refused("new", "thing", "b")
    assert "does not run when the model of toy" in line.refused("new", "tests", "mine.net")
    nobody = CommandLine(source.parents[1], capsys, replace(TOY, tasks={}, presets={}))
    assert "this project has no task yet" in nobody.refused("new", "tests", "mine.net")


# --- project.py -------------------------------------------------------------------------------


def test_a_task_is_entered_behind_the_others(source: Path) -> None:
    path = source / "project.py"
    assert enter(path, entries("mine", "Mine"))
    old, new = PROJECT.splitlines(), path.read_text().splitlines()
    assert [line for line in new if line not in old] == [
        '    "mine": ".mine.task:MineTask",',
        '    "mine": "mine",',
        '    "mine_smoke": "mine",',
    ]
    assert [line for line in new if line in old] == old
    assert [line for line in new if line.startswith("    ")].index('    "mine": "mine",') == 3


@pytest.mark.parametrize(
    "edited",
    [
        PROJECT.replace('{\n    "old": ".old.task:OldTask",\n}', '{"old": ".old.task:OldTask"}'),
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


def test_the_first_task_gets_the_usual_presets_too(source: Path) -> None:
    path = source / "project.py"
    path.write_text("TASKS: dict[str, str] = {}\nPRESETS: dict[str, str] = {}\n")
    new_task(replace(TOY, tasks={}, presets={}), "mine")
    names: dict[str, Any] = {}
    exec(path.read_text(), names)
    assert names["TASKS"] == {"mine": ".mine.task:MineTask"}
    assert names["PRESETS"] == dict.fromkeys(("default", "smoke", "mine", "mine_smoke"), "mine")


def test_then_the_lines_to_add_are_said(source: Path) -> None:
    (source / "project.py").write_text("TASKS = {}\n")
    said = "\n".join(new_task(TOY, "mine"))
    assert "whose dicts could not be edited:" in said
    assert '  TASKS: "mine": ".mine.task:MineTask",' in said
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
    path = source / "own" / "mine.py"
    path.parent.mkdir()
    path.write_text('"""Mine."""\n')
    for kind in (Inner, Outer, Demanding):
        monkeypatch.setattr(kind, "__module__", f"{PACKAGE}.own.mine")
    return path


def test_the_first_call_of_each_class_is_captured(mine: Path) -> None:
    found = captured_calls(OuterTask(toy()), f"{PACKAGE}.own.mine")
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
    said = new_tests("own.mine", tasks)
    assert said[0] == "tests/own/test_mine.py"
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
        "own.mine",
        f"{PACKAGE}.own.mine",
        "own/mine.py",
        f"src/{PACKAGE}/own/mine.py",
    ):
        assert module_path(name) == mine
    for name in ("own.other", "tests", str(ROOT / "noxfile.py")):
        with pytest.raises(RefusedInputError, match="there is no module"):
            module_path(name)


def test_a_task_without_an_input_is_refused(mine: Path) -> None:
    silent = type("Silent", (OuterTask,), {"example_input": Task.example_input})
    with pytest.raises(RefusedInputError, match=r"has no example_input\(\): write it first"):
        new_tests("own.mine", {"silent": ("default", silent(toy()))})


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
