"""One item, step by step: its answers side by side as a picture, and one after another as a film.

A row's `output` is what `halting` describes, and has the `confidences` of all steps.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...engine.evaluation.figures import new_figure, save_figure
from ...engine.training.task import Row

Draw = Callable[[Any], None]
"""Draws one state of the item into matplotlib's axes, which are SIDE_INCHES wide."""
SIDE_INCHES = 1.84
TITLE_INCHES = 0.42
PICTURES_IN_A_ROW = 5
FILM_DPI = 150
FRAME_MS = 800
LAST_FRAMES = 4
"""A film's last frame stays that many times as long as the others."""


def row_to_show(rows: Sequence[Row]) -> Row:
    """Choose the row to show step by step: the hardest right one, with several steps if any has.

    Where none is right, the hardest one. Raises ValueError for no rows.
    """
    if not rows:
        raise ValueError("there are no rows to draw")

    def rank(row: Row) -> tuple[bool, bool, float]:
        right, thought = row.output["right"], row.output["steps"] > 1
        return right, right and thought, float(row.slices["difficulty"])

    return max(rows, key=rank)


def draw_steps(
    row: Row, *, puzzle: Draw, answers: Sequence[Draw], solution: Draw, path: Path
) -> list[str]:
    """Draw all steps of an answer as a picture (.png) and a film (.gif); their names.

    `answers` are of all steps at full depth. The film begins with the puzzle, ends with the step
    at which the row stopped, holds that one longer, and begins again.
    """
    shown = {"the puzzle": puzzle}
    stop = row.output["steps"]
    for step, (answer, sure) in enumerate(zip(answers, row.output["confidences"], strict=True), 1):
        stops = " (stops)" if step == stop else ""
        shown[f"step {step}{stops}\n{100 * sure:.1f} % sure"] = answer
    _write_picture({**shown, "the solution": solution}, path.with_suffix(".png"))
    _write_film(dict(list(shown.items())[: 1 + stop]), path.with_suffix(".gif"))
    return [path.with_suffix(suffix).name for suffix in (".png", ".gif")]


def outcome(row: Row) -> str:
    """Say in words what became of the row whose steps are shown."""
    steps = row.output["steps"]
    taken = f"{steps} step{'s' if steps > 1 else ''}"
    return f"{'solved' if row.output['right'] else 'not solved'} in {taken}"


ABOUT_STEPS = (
    "Below a step's number stands how sure the halting head is that its answer is right. Once it "
    "is sure enough, or at the last step, the network stops, and so does the film; the answers of "
    "later steps are what it would have gone on to."
)


def _write_picture(shown: dict[str, Draw], path: Path) -> None:
    in_a_row = min(PICTURES_IN_A_ROW, len(shown))
    lines = -(-len(shown) // in_a_row)
    figure, first = new_figure(SIDE_INCHES * in_a_row, (SIDE_INCHES + TITLE_INCHES) * lines)
    grid = figure.add_gridspec(lines, in_a_row)
    for place, (title, draw) in enumerate(shown.items()):
        axes = figure.add_subplot(grid[place]) if place else first
        axes.set_subplotspec(grid[place])
        _draw_panel(axes, title, draw)
    save_figure(figure, path)


def _write_film(shown: dict[str, Draw], path: Path) -> None:
    from matplotlib.animation import PillowWriter  # not before a film is made

    height = SIDE_INCHES + TITLE_INCHES
    figure, axes = new_figure(SIDE_INCHES, height)
    # fixed, so that the item stands still whatever its title
    axes.set_position((0.02, 0.02, 0.96, 0.96 * SIDE_INCHES / height))
    writer = PillowWriter(fps=1000 / FRAME_MS)  # type: ignore[arg-type]
    with writer.saving(figure, path, FILM_DPI):
        for title, draw in shown.items():
            axes.clear()
            _draw_panel(axes, title, draw)
            writer.grab_frame()
        for _ in range(LAST_FRAMES - 1):
            writer.grab_frame()


def _draw_panel(axes: Any, title: str, draw: Draw) -> None:
    draw(axes)
    axes.set_axis_off()
    axes.set_title(title, fontsize=9)
