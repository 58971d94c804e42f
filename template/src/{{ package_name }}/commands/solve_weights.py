"""The weights that `solve` works with: those of a run, by default of the newest on Sudoku."""

from dataclasses import dataclass

from torch import nn

from ..errors import RefusedInputError
from ..evaluation.evaluate import validation_scores
from ..loading import load_model, open_run
from ..paths import runs_folder
from ..tasks.sudoku import SudokuTask
from ..tracking.run_directory import list_runs


@dataclass(frozen=True, kw_only=True)
class TrainedSudoku:
    """A model in eval mode, and what goes with it."""

    model: nn.Module
    side: int
    """Cells in a row of the puzzles that it was trained on."""
    threshold: float
    """Tuned on validation while it trained."""
    max_steps: int
    described: str
    """Where the weights are from, in one line."""


def trained_sudoku(run: str | None) -> TrainedSudoku:
    """Load the best weights of `run`. Raises RefusedInputError where there are none on Sudoku."""
    name = run if run is not None else _newest()
    opened = open_run(name)
    if not isinstance(opened.task, SudokuTask):
        raise RefusedInputError(
            f"{name} is a run of the task {opened.task.name!r}, not of 'sudoku': name another"
        )
    model, _ = load_model(name)
    opened.task.use_validation(validation_scores(opened.manifest, "best"))
    side, threshold = opened.task.config.data.side, opened.task.threshold
    return TrainedSudoku(
        model=model,
        side=side,
        threshold=threshold,
        max_steps=opened.task.reasoner.halting.max_steps,
        described=f"{opened.run_dir}: {side} x {side}, stops at a confidence of {threshold:.2f}",
    )


def _newest() -> str:
    runs = [
        run
        for run in list_runs(runs_folder())
        if run.get("task") == SudokuTask.name and run.get("best")
    ]
    if not runs:
        raise RefusedInputError(
            "there is no run on Sudoku yet: train one with `train --preset default`, or name one "
            "with --run"
        )
    return str(runs[-1]["path"])
