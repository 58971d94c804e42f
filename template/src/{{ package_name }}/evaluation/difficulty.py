"""Which items are solved, and how long they took, by how hard they are.

A row's `slices["difficulty"]` is a number; its `output` is what `halting` describes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..training.task import ReportSection, Row
from .figures import ACCENT, SECOND, new_figure, save_figure

MOST_GROUPS = 15
"""Values of difficulty that each get a line of their own; with more, neighbours share one."""


def difficulty_section(rows: Sequence[Row], folder: Path, what: str) -> ReportSection:
    """Accuracy and steps by difficulty; `what` says in words what that is.

    Raises ValueError for no rows, and KeyError for a row without difficulty.
    """
    groups = difficulty_groups(rows)
    places = range(len(groups))
    right = [_mean(chosen, "right") for chosen in groups.values()]
    steps = [_mean(chosen, "steps") for chosen in groups.values()]
    figure, left = new_figure(9.2, 4.2)
    grid = figure.add_gridspec(1, 2)
    left.set_subplotspec(grid[0])
    second = figure.add_subplot(grid[1])
    second.spines[["top", "right"]].set_visible(False)
    left.bar(places, right, color=ACCENT)
    left.set_ylim(0, 1)
    left.set_ylabel("share of items that are right")
    second.bar(places, steps, color=SECOND)
    second.set_ylabel("mean supervision steps taken")
    for axes in (left, second):
        axes.set_xticks(places, list(groups), rotation=45 if len(groups) > 8 else 0)
        axes.set_xlabel(what)
    save_figure(figure, folder / "difficulty.png")
    table = [
        [name, str(len(chosen)), f"{of_right:.4f}", f"{of_steps:.2f}"]
        for (name, chosen), of_right, of_steps in zip(groups.items(), right, steps, strict=True)
    ]
    return ReportSection(
        title="By difficulty",
        text=f"Difficulty is the {what}.",
        pictures=["difficulty.png"],
        table=([what, "items", "right", "mean steps"], table),
    )


def difficulty_groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """{difficulty, or `least-most` of neighbours that share a line: its rows}, easiest first."""
    if not rows:
        raise ValueError("there are no rows to group")
    values = np.array([float(row.slices["difficulty"]) for row in rows])
    different = np.unique(values)
    found = {}
    for part in np.array_split(different, min(MOST_GROUPS, len(different))):
        name = f"{part[0]:g}" if len(part) == 1 else f"{part[0]:g}-{part[-1]:g}"
        inside = (values >= part[0]) & (values <= part[-1])
        found[name] = [rows[i] for i in np.flatnonzero(inside).tolist()]
    return found


def _mean(rows: Sequence[Row], name: str) -> float:
    total: Any = sum(row.output[name] for row in rows)
    return float(total / len(rows))
