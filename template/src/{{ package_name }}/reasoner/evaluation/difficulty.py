"""Which items are solved, and how long they took, by how hard they are.

A row's `slices["difficulty"]` is a number; its `output` is what `halting` describes. Where a row
has `slices["minimal"]`, "yes" says that nothing of what is given can be spared: such items are as
hard as their kind can be, whatever their difficulty, and are scored apart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.evaluation.bootstrap import numbers
from ...engine.evaluation.figures import ACCENT, SECOND, new_figure, save_figure
from ...engine.training.task import ReportSection, Row

MOST_GROUPS = 16
"""Values of difficulty that each get a line of their own; with more, neighbours share one."""
MINIMAL = "minimal"
GUESSES = {"0": (0, 0), "1_to_4": (1, 4), "5_up": (5, np.inf)}
"""{part of a score's name: fewest and most guesses}, the strata that 9 x 9 Sudokus are made in."""


def accuracy_apart(rows: Sequence[Row], right: NDArray[np.bool_]) -> dict[str, float]:
    """Accuracy on minimal, the most difficult rows: `accuracy_minimal`, `right` [N] of them.

    Nothing where all rows are minimal or none is: that would be `accuracy` again, or no number.
    """
    minimal = numbers(rows, _minimal)
    if minimal.all() or not minimal.any():
        return {}
    return {f"accuracy_{MINIMAL}": float(right[minimal].mean())}


def accuracy_by_guesses(rows: Sequence[Row]) -> dict[str, float]:
    """Accuracy by the guesses that a row needs: `accuracy_guesses_0`, `_1_to_4`, `_5_up`.

    A row's `slices["guesses"]` is a number. A stratum without rows has no score, and there is
    none at all where one stratum has every row: that would be `accuracy` again.
    """
    guesses, right = numbers(rows, _guesses), numbers(rows, _right)
    found = {}
    for name, (least, most) in GUESSES.items():
        chosen = (guesses >= least) & (guesses <= most)
        if chosen.all():
            return {}
        if chosen.any():
            found[f"accuracy_guesses_{name}"] = float(right[chosen].mean())
    return found


def difficulty_section(rows: Sequence[Row], folder: Path, what: str) -> ReportSection:
    """Accuracy and steps by difficulty; `what` says in words what is counted.

    Raises ValueError for no rows, and KeyError for a row without difficulty.
    """
    groups = difficulty_groups(rows)
    right = [_mean(chosen, "right") for chosen in groups.values()]
    steps = [_mean(chosen, "steps") for chosen in groups.values()]
    figure, left = new_figure(9.2, 4.2)
    grid = figure.add_gridspec(1, 2)
    left.set_subplotspec(grid[0])
    second = figure.add_subplot(grid[1])
    second.spines[["top", "right"]].set_visible(False)
    _draw_bars(left, right, groups, ACCENT)
    left.set_ylim(0, 1)
    left.set_ylabel("share of items that are right")
    _draw_bars(second, steps, groups, SECOND)
    second.set_ylabel("mean supervision steps taken")
    for axes in (left, second):
        axes.set_xlabel(what)
    save_figure(figure, folder / "difficulty.png")
    table = [
        [name, str(len(chosen)), f"{of_right:.4f}", f"{of_steps:.2f}"]
        for (name, chosen), of_right, of_steps in zip(groups.items(), right, steps, strict=True)
    ]
    return ReportSection(
        title="By difficulty",
        text=f"Items are grouped by {what}.{_about_minimal(groups)}",
        pictures=["difficulty.png"],
        table=([what, "items", "right", "mean steps"], table),
    )


def difficulty_groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """{difficulty, or `least-most` of neighbours that share a line: its rows}, easiest first.

    Where some rows are minimal and some are not, the minimal ones come last and on their own.
    """
    if not rows:
        raise ValueError("there are no rows to group")
    values = _difficulties(rows)
    apart = _minimal(rows)
    if apart.all():
        apart = ~apart
    different = np.unique(values[~apart])
    found = {}
    for part in np.array_split(different, min(MOST_GROUPS, len(different))):
        inside = (values >= part[0]) & (values <= part[-1]) & ~apart
        found[_span(part)] = [rows[i] for i in np.flatnonzero(inside).tolist()]
    if apart.any():
        found[MINIMAL] = [rows[i] for i in np.flatnonzero(apart).tolist()]
    return found


def _about_minimal(groups: dict[str, list[Row]]) -> str:
    if MINIMAL not in groups:
        return ""
    span = _span(np.unique(_difficulties(groups[MINIMAL])))
    return (
        f" Minimal items, where nothing that is given can be spared, are a group of their own "
        f"(hatched; here {span}) and in no other."
    )


def _span(values: NDArray[np.float64]) -> str:
    """Sorted numbers as `least-most`."""
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}-{values[-1]:g}"


def _draw_bars(
    axes: Any, heights: Sequence[float], groups: dict[str, list[Row]], colour: str
) -> None:
    """One bar a group, that of minimal items hatched and at a distance."""
    places = [place + 0.6 * (name == MINIMAL) for place, name in enumerate(groups)]
    bars = axes.bar(places, heights, color=colour)
    if MINIMAL in groups:
        bars[-1].set(hatch="///", edgecolor="white")
    axes.set_xticks(places, list(groups), rotation=45 if len(groups) > 8 else 0)


def _difficulties(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([float(row.slices["difficulty"]) for row in rows])


def _minimal(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.slices.get(MINIMAL) == "yes" for row in rows])


def _guesses(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([float(row.slices["guesses"]) for row in rows])


def _right(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.output["right"] for row in rows], dtype=np.bool_)


def _mean(rows: Sequence[Row], name: str) -> float:
    total: Any = sum(row.output[name] for row in rows)
    return float(total / len(rows))
