"""One Sudoku, and what the network wrote at each supervision step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

from ...engine.data.dataset import Batch, Dataset
from ...engine.evaluation.figures import ACCENT, SECOND
from ...engine.training.task import ReportSection, Row
from ..data.sudoku import EMPTY_TOKEN
from ..data.sudoku_rules import geometry
from ..models.full_model import RecursiveReasoner
from .steps import ABOUT_STEPS, draw_steps, outcome, row_to_show

DARK = "#1b1f24"
WRONG_CELL = "#fbd9c3"
"""A light vermilion: also without colours it is darker than the white of other cells."""
DIGIT_POINTS = 82
"""Height of a digit times the side of the grid."""


@dataclass(frozen=True, kw_only=True)
class DrawnSudoku:
    """A Sudoku to draw, with its solution; cells row by row, 0 an empty one."""

    puzzle: Sequence[int]
    solution: Sequence[int]

    @property
    def side(self) -> int:
        """Rows of the grid."""
        return isqrt(len(self.puzzle))

    def is_wrong(self, cell: int, digit: int) -> bool:
        """Whether `digit` contradicts the solution; an empty cell does not."""
        return digit not in (0, self.solution[cell])

    def draw(self, grid: Sequence[int], axes: Any) -> None:
        """Draw a Sudoku grid, with the given digits of the puzzle bold where they were kept."""
        side = self.side
        for cell, digit in enumerate(grid):
            row, column = divmod(cell, side)
            wrong = self.is_wrong(cell, digit)
            if wrong:
                axes.fill_between([column, column + 1], row, row + 1, color=WRONG_CELL, lw=0)
            kept = digit == self.puzzle[cell]
            axes.text(
                column + 0.5,
                row + 0.53,
                "" if not digit else str(digit) if digit > 0 else "?",
                color=SECOND if wrong else DARK if kept else ACCENT,
                weight="bold" if kept else "normal",
                fontsize=DIGIT_POINTS / side,
                ha="center",
                va="center",
            )
        rules = geometry(side)
        for place in range(side + 1):
            for line, box in ((axes.vlines, rules.box_columns), (axes.hlines, rules.box_rows)):
                thick = place % box == 0
                line(place, 0, side, color=DARK if thick else "0.75", lw=1.2 if thick else 0.5,
                     zorder=3 if thick else 2, capstyle="projecting")  # fmt: skip
        axes.set(xlim=(-0.05, side + 0.05), ylim=(side + 0.05, -0.05), aspect="equal")


def sudoku_steps_section(
    model: RecursiveReasoner, rows: Sequence[Row], examples: Dataset, folder: Path
) -> ReportSection:
    """Report a Sudoku solved step by step: the hardest that was solved, or the hardest one.

    `rows` are predictions of `examples`. The answers are asked of the `model`, which is in eval
    mode and gives them at full depth. Raises ValueError for no rows.
    """
    row = row_to_show(rows)
    example = _example_of(row, examples)
    tokens = example["tokens"][None].to(next(model.parameters()).device)
    depth = len(row.output["confidences"])
    answers = [step.logits[0].argmax(-1) for step in model.at_depth(tokens, depth)]
    puzzle, solution, *grids = (
        (each - EMPTY_TOKEN).tolist() for each in (example["tokens"], example["labels"], *answers)
    )
    drawn = DrawnSudoku(puzzle=puzzle, solution=solution)
    pictures = draw_steps(
        row,
        puzzle=partial(drawn.draw, puzzle),
        answers=[partial(drawn.draw, grid) for grid in grids],
        solution=partial(drawn.draw, solution),
        path=folder / "sudoku_steps",
    )
    return ReportSection(
        title="One Sudoku, step by step",
        text=f"Example {row.example_id} with {row.slices['difficulty']} empty cells, "
        f"{outcome(row)}. Given digits are bold, the network's are blue. In a filled cell stands, "
        f"in vermilion, what is wrong; a ? is no digit. {ABOUT_STEPS}",
        pictures=pictures,
    )


def _example_of(row: Row, examples: Dataset) -> Batch:
    """Find the Sudoku example that a stored row predicts."""
    found = (examples.example(index, None) for index in range(len(examples)))
    return next(example for example in found if int(example["example_id"]) == row.example_id)
