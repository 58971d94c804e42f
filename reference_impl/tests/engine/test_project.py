"""What project.py says, and where a project's files go."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from reference_reasoner import project as own
from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.project import Project, project_root, runs_folder

from .toy.command_line import TOY
from .toy.task import ToyTask

OWN = Project.of(own)


def test_a_name_is_a_task_or_refused() -> None:
    assert TOY.task_type("toy") is ToyTask
    with pytest.raises(RefusedInputError, match=r"no task 'tay'; did you mean toy\?"):
        TOY.task_type("tay")


def test_a_preset_belongs_to_a_task_or_is_refused() -> None:
    assert TOY.task_of_preset("smoke") == "toy"
    with pytest.raises(RefusedInputError, match=r"did you mean smoke\? \(known: default, smoke"):
        TOY.task_of_preset("smok")


def test_without_a_task_the_next_command_is_named() -> None:
    empty = replace(TOY, tasks={}, presets={})
    for ask in (lambda: empty.default_task, lambda: empty.task_of_preset("smoke")):
        with pytest.raises(RefusedInputError, match="no task yet: `new task NAME` writes one"):
            ask()


def test_budgets_stand_in_the_folder_of_the_task(project: Path) -> None:
    two = replace(TOY, package="mine", tasks={"a": ".b.tasks.a:A", "c": ".c.task:C"})
    assert two.budgets_path("a") == project / "src" / "mine" / "b" / "budgets.toml"
    assert two.budgets_path("c") == project / "src" / "mine" / "c" / "budgets.toml"
    with pytest.raises(RefusedInputError, match="there is no task 'd'"):
        two.budgets_path("d")


def test_project_py_is_read_as_it_stands() -> None:
    assert (OWN.package, OWN.program) == (own.__package__, own.__package__)
    assert (OWN.tasks, OWN.presets, OWN.commands) == (own.TASKS, own.PRESETS, own.COMMANDS)
    assert OWN.benched is None or OWN.benched in OWN.presets


@pytest.mark.parametrize("preset", OWN.presets)
def test_every_preset_belongs_to_a_task_whose_ablations_it_takes(preset: str) -> None:
    task_type = OWN.task_type(OWN.task_of_preset(preset))
    assert task_type.name == OWN.task_of_preset(preset)
    for name, changes in task_type.ablations.items():
        overlay(task_type.presets[preset](), changes, name)


@pytest.mark.parametrize("command", OWN.commands)
def test_every_command_of_the_project_can_be_found(command: str) -> None:
    module, _, function = OWN.commands[command][0].partition(":")
    assert callable(getattr(importlib.import_module(module, OWN.package), function))


def test_the_nearest_pyproject_is_the_root(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = project / "notebooks" / "old"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert project_root() == project
    assert runs_folder() == project / "runs"
    assert not runs_folder().exists()


def test_an_inner_project_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = project / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").touch()
    monkeypatch.chdir(inner)
    assert project_root() == inner


def test_without_a_pyproject_it_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").mkdir()  # a folder of that name is none
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: path.parent == Path("/nowhere"))
    assert project_root() == tmp_path
