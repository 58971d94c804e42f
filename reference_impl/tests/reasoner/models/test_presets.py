"""The reference model's presets: their sizes, their configs, and the table in the document."""

from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.config.fields import overlay, read_toml, to_toml
from reference_reasoner.engine.training.task import Task
from reference_reasoner.project import PRESETS, TASKS
from reference_reasoner.reasoner.tasks.mazes import MazeTask
from reference_reasoner.reasoner.tasks.recall import RecallTask
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    grid25m,
)

from ..command_line import CommandLine
from . import parameter_table

SIZES = {
    "grid25m": 25_606_777,
    "lm25m": 25_676_489,
    "trm7m": 6_828_034,
    "trm7m_mixing": 5_028_866,
}
REASONERS: list[type[Task[Any]]] = [MazeTask, RecallTask, SudokuTask]


@pytest.mark.parametrize("preset", SIZES)
def test_a_preset_has_exactly_as_many_parameters_as_it_says(preset: str) -> None:
    model = parameter_table.model_of(preset)
    tensors = list(model.parameters())
    assert all(tensor.is_meta for tensor in tensors)
    assert sum(tensor.numel() for tensor in tensors) == SIZES[preset]
    said = parameter_table.TASKS[preset].presets[preset].__doc__ or ""
    assert f"{SIZES[preset]:,} parameters" in said


def test_the_components_are_the_whole() -> None:
    found = parameter_table.counts(parameter_table.model_of("grid25m"))
    assert found.pop("total") == sum(found.values()) == SIZES["grid25m"]
    # 25 M in each layer's large parts, by hand: width 768, 2 layers, hidden width 3392
    assert found["attention"] == found["memory projections"] == 2 * 4 * 768**2
    assert found["feed-forward"] == 2 * 3 * 768 * 3392
    assert found["initial memories"] == 2 * 12 * 2 * 64 * 128
    assert found["gains"] == 2 * 3 * 768


def test_a_parameter_without_a_row_is_refused() -> None:
    with pytest.raises(LookupError, match="adapter belongs to no component"):
        parameter_table.component("backbone.blocks.0.adapter")


def test_the_document_holds_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert parameter_table.main([]) == 0
    printed = capsys.readouterr().out
    _, inside, _ = parameter_table.split(parameter_table.DOCUMENT.read_text(encoding="utf-8"))
    assert inside == printed, "run python -m tests.reasoner.models.parameter_table --write"


def test_the_command_rewrites_the_table_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = parameter_table.DOCUMENT.read_text(encoding="utf-8")
    before, _, after = parameter_table.split(text)
    path = tmp_path / "architecture.md"
    monkeypatch.setattr(parameter_table, "DOCUMENT", path)
    path.write_text(f"{before}| old |\n{after}", encoding="utf-8")
    assert parameter_table.main(["--write"]) == 0
    assert path.read_text(encoding="utf-8") == text
    path.write_text("no table here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="needs the two lines"):
        parameter_table.main(["--write"])


@pytest.mark.parametrize(
    ("task", "preset"),
    [
        (task, preset)
        for task in REASONERS
        for preset in task.presets
        if PRESETS[preset] == task.name
    ],
)
def test_a_preset_is_a_config_that_says_its_name(
    task: type[Task[Any]], preset: str, tmp_path: Path
) -> None:
    make = task.presets[preset]
    config = make()
    assert type(config) is task.config_type
    assert make() == config
    assert f"--preset {preset}`" in (make.__doc__ or "")
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert overlay(task.config_type(), read_toml(path), "test") == config


def test_the_project_lists_sudoku_with_all_its_presets() -> None:
    assert TASKS["sudoku"].endswith(".tasks.sudoku:SudokuTask")
    assert next(iter(TASKS)) == "sudoku"
    assert {name for name, task in PRESETS.items() if task == "sudoku"} == set(SudokuTask.presets)


def test_the_vocabulary_of_the_language_preset() -> None:
    config = RecallTask.presets["lm25m"]()
    assert config.data.vocabulary == 4096  # type: ignore[attr-defined]


def test_a_missing_set_of_puzzles_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", "--preset", "grid25m", "--data.folder", "nowhere")
    assert "holds no set of 9 x 9" in CommandLine(project, capsys).refused(*words, code=2)


def test_the_example_input_is_one_empty_grid() -> None:
    (grid,) = SudokuTask(grid25m()).example_input()
    assert grid.shape == (1, 81)
    assert (grid == 1).all()
