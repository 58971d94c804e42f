"""One maze, and what the model answered after each supervision step."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...engine.evaluation.figures import ACCENT, SECOND, THIRD
from ...engine.training.task import ReportSection, Row
from ..data.maze_rules import (
    GOAL,
    OPEN,
    PATH,
    START,
    WALL,
    to_text,
)
from .steps import ABOUT_STEPS, draw_steps, outcome, row_to_show

COLOURS = {WALL: "#30363d", OPEN: "#ffffff", START: THIRD, GOAL: SECOND, PATH: ACCENT}
"""By character; what is none of them is a padding token, and light grey."""
PADDING_COLOUR = "#c8ccd0"


def maze_steps_section(rows: Sequence[Row], folder: Path) -> ReportSection:
    """Report a maze solved step by step: the hardest that was solved, or the hardest one.

    A row's output has the text of the `puzzle` and, in `answers`, of every step's answer at full
    depth; cells that the puzzle and its solution do not have so are crossed. Raises
    ValueError for no rows.
    """
    row = row_to_show(rows)
    puzzle, solution = row.output["puzzle"], row.output["solution"]
    pictures = draw_steps(
        row,
        puzzle=partial(_draw, puzzle, puzzle),
        answers=[partial(_draw, answer, solution) for answer in row.output["answers"]],
        solution=partial(_draw, solution, solution),
        path=folder / "maze_steps",
    )
    return ReportSection(
        title="One maze, step by step",
        text=f"Example {row.example_id}, a path of {row.slices['difficulty']} moves, "
        f"{outcome(row)}. The start is green, the goal vermilion, the path blue; a crossed cell is "
        f"not as in the solution. {ABOUT_STEPS}",
        pictures=pictures,
    )


def _draw(text: str, solution: str, axes: Any) -> None:
    lines, wanted = to_text(text).split("\n"), to_text(solution).split("\n")
    colours = [[COLOURS.get(character, PADDING_COLOUR) for character in line] for line in lines]
    axes.imshow([[_rgb(colour) for colour in line] for line in colours])
    wrong = [
        (column, row)
        for row, line in enumerate(lines)
        for column, character in enumerate(line)
        if character != wanted[row][column]
    ]
    if wrong:
        axes.scatter(*zip(*wrong, strict=True), marker="x", color="white", s=26, lw=3)
        axes.scatter(*zip(*wrong, strict=True), marker="x", color="black", s=22, lw=1.2)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
