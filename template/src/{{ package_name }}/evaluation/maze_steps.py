"""One maze, and what the model answered after each supervision step, as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.maze_rules import (
    GOAL,
    OPEN,
    PATH,
    START,
    WALL,
    to_text,
)
from ..training.task import ReportSection, Row
from .figures import ACCENT, SECOND, THIRD, new_figure, save_figure

COLOURS = {WALL: "#30363d", OPEN: "#ffffff", START: THIRD, GOAL: SECOND, PATH: ACCENT}
"""By character; what is none of them is a padding token, and light grey."""
PADDING_COLOUR = "#c8ccd0"
PICTURES_IN_A_ROW = 5


def maze_steps_section(rows: Sequence[Row], folder: Path) -> ReportSection:
    """The hardest maze that was solved, or the hardest one where none was, step by step.

    A row's output has the text of the `puzzle` and, in `answers`, of every step's answer at full
    depth; cells that the puzzle and its solution do not have so are crossed. Raises
    ValueError for no rows.
    """
    row = max(
        rows, key=lambda row: (row.output["right"], float(row.slices["difficulty"])), default=None
    )
    if row is None:
        raise ValueError("there are no rows to draw")
    shown = {"the maze": row.output["puzzle"]}
    for step, answer in enumerate(row.output["answers"], start=1):
        stop = " (stops)" if step == row.output["steps"] else ""
        shown[f"step {step}{stop}"] = answer
    shown["solution"] = row.output["solution"]
    in_a_row = min(PICTURES_IN_A_ROW, len(shown))
    lines = -(-len(shown) // in_a_row)
    figure, first = new_figure(1.9 * in_a_row, 2.15 * lines)
    grid = figure.add_gridspec(lines, in_a_row)
    for place, (title, text) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[place]) if place else first
        axes.set_subplotspec(grid[place])
        _draw(axes, text, row.output["solution"] if title.startswith("step") else text)
        axes.set_title(title, fontsize=9)
    save_figure(figure, folder / "maze_steps.png")
    outcome = "solved" if row.output["right"] else "not solved"
    return ReportSection(
        title="One maze, step by step",
        text=f"Example {row.example_id}, a path of {row.slices['difficulty']} moves, {outcome}: "
        "start green, goal vermilion, path blue. A cross is a cell that is not as in the solution.",
        pictures=["maze_steps.png"],
    )


def _draw(axes: Any, text: str, solution: str) -> None:
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
        axes.scatter(*zip(*wrong, strict=True), marker="x", color="#d00000", s=18)
    axes.set_axis_off()


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))
