"""How long does the model think about an item, and is that as long as the item needs?

A row's `output` is a dict: `steps` (supervision steps taken), `right` (is the answer at the stop
right), `right_at_full_depth` (would it be after all steps) and `first_correct` (the first step
with a right answer when nothing stops it, null if there is none). Its `confidence` is the
sigmoid of the halting logit at the stop. N rows.

*Solved* items are those that full depth answers right. An item that is never right has no step
at which it should have stopped, and it usually takes all of them, which alone spreads the steps;
so judge `std_steps_solved` and the rank correlations, which are over the solved items only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.evaluation.bootstrap import numbers
from ...engine.evaluation.classification import binned
from ...engine.evaluation.figures import ACCENT, SECOND, new_figure, save_figure
from ...engine.training.task import ReportSection, Row
from .difficulty import accuracy_apart


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The rows as arrays [N]; `first_correct` int64 [solved] and in the order of the rows."""

    steps: NDArray[np.int64]
    right: NDArray[np.bool_]
    solved: NDArray[np.bool_]
    first_correct: NDArray[np.int64]


def _columns(rows: Sequence[Row]) -> _Columns:
    """Raises ValueError for no rows, and for a solved one without a first correct step."""
    if not rows:
        raise ValueError("there are no rows to score")
    steps, right, solved, first_correct = numbers(rows, _outcomes).T
    solved = solved.astype(np.bool_)
    if (first_correct[solved] == 0).any():
        row = rows[int((solved & (first_correct == 0)).argmax())]
        raise ValueError(
            f"example {row.example_id} is right at full depth but its first_correct is null"
        )
    return _Columns(
        steps=steps,
        right=right.astype(np.bool_),
        solved=solved,
        first_correct=first_correct[solved],
    )


def _outcomes(rows: Sequence[Row]) -> NDArray[np.int64]:
    """[N, 4]: the fields of `_Columns`; `first_correct` 0 for null."""
    names = ("steps", "right", "right_at_full_depth", "first_correct")
    return np.array([[row.output[name] or 0 for name in names] for row in rows], dtype=np.int64)


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation of two arrays [N]; equal values share their mean rank.

    Pearson's correlation of the ranks (Kendall and Gibbons 1990, Rank Correlation Methods). 0.0
    where it is not defined, which is for fewer than two values and where one side is constant:
    a model that takes the same number of steps for every item follows nothing.
    """
    if len(first) < 2:
        return 0.0
    ranks = [_average_ranks(each) for each in (first, second)]
    x, y = (each - each.mean() for each in ranks)
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else 0.0


def _average_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def halting_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Score halting: steps taken, what stopping costs, and whether steps follow need.

    `mean_steps`, `std_steps` (population), `fewest_steps`, `most_steps`, `accuracy` at the stop
    and `accuracy_at_full_depth` are over all rows, `accuracy_minimal` over the minimal ones
    (there if some rows are and some are not, see `difficulty`); `std_steps_solved`,
    `spearman_first_correct` and `spearman_difficulty` (there if each row has a number as
    `slices["difficulty"]`) over the solved ones, and 0.0 if there are none.
    `calibration_error` (there if each row has a confidence) is the expected calibration error of
    `confidence` as the probability of `right`, over ten bins. Raises ValueError for no rows.
    """
    columns = _columns(rows)
    steps, solved = columns.steps, columns.solved
    scores = {
        "accuracy": float(columns.right.mean()),
        **accuracy_apart(rows, columns.right),
        "accuracy_at_full_depth": float(solved.mean()),
        "mean_steps": float(steps.mean()),
        "std_steps": float(steps.std()),
        "std_steps_solved": float(steps[solved].std()) if solved.any() else 0.0,
        "fewest_steps": float(steps.min()),
        "most_steps": float(steps.max()),
        "spearman_first_correct": spearman(steps[solved], columns.first_correct),
    }
    difficulty = _difficulty(rows)
    if difficulty is not None:
        scores["spearman_difficulty"] = spearman(steps[solved], difficulty[solved])
    error = _calibration_error(rows)
    return scores if error is None else scores | {"calibration_error": error}


def _difficulty(rows: Sequence[Row]) -> NDArray[np.float64] | None:
    values = numbers(rows, _difficulties)
    return values if np.isfinite(values).all() else None


def _difficulties(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Difficulties of rows whose halting is scored; not a number where a row has none."""
    return np.array([_number(row.slices.get("difficulty", "nan")) for row in rows])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _calibration_error(rows: Sequence[Row]) -> float | None:
    sure = numbers(rows, _confidence_at_the_stop)
    if np.isnan(sure).any():
        return None
    count, confidence, accuracy = binned(sure, numbers(rows, _outcomes)[:, 1] > 0)
    return float((count * np.abs(confidence - accuracy)).sum() / count.sum())


def _confidence_at_the_stop(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([np.nan if row.confidence is None else row.confidence for row in rows])


def halting_section(rows: Sequence[Row], folder: Path) -> ReportSection:
    """Report on halting: the steps taken, and those against the first step that was right."""
    columns = _columns(rows)
    scores = halting_scores(rows)
    figure, left = new_figure(9.2, 4.2)
    grid = figure.add_gridspec(1, 2)
    left.set_subplotspec(grid[0])
    right = figure.add_subplot(grid[1])
    right.spines[["top", "right"]].set_visible(False)
    _draw_histogram(left, columns)
    _draw_first_correct(right, columns)
    save_figure(figure, folder / "halting.png")
    names = ("spearman_first_correct", "spearman_difficulty", "calibration_error")
    measures = [f"{name} {scores[name]:.3f}" for name in names if name in scores]
    return ReportSection(
        title="Halting",
        text=f"{', '.join(measures)}. Rank correlations are over the items that full depth "
        "solves; a dot's area shows how many of them it stands for.",
        pictures=["halting.png"],
        table=(
            ["items", "number", "right at the stop", "mean steps", "std", "fewest", "most"],
            _table(columns),
        ),
    )


def _draw_histogram(axes: Any, columns: _Columns) -> None:
    places = np.arange(1, columns.steps.max() + 1)
    bottom = np.zeros(len(places))
    for chosen, colour, label in (
        (columns.solved, ACCENT, "solved by full depth"),
        (~columns.solved, SECOND, "not solved"),
    ):
        height = np.bincount(columns.steps[chosen], minlength=len(places) + 1)[1:]
        axes.bar(places, height, bottom=bottom, color=colour, label=label)
        bottom = bottom + height
    axes.set_xlabel("supervision steps taken")
    axes.set_ylabel("items")
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False)


def _draw_first_correct(axes: Any, columns: _Columns) -> None:
    steps, first = columns.steps[columns.solved], columns.first_correct
    end = int(max(columns.steps.max(), first.max(initial=1)))
    axes.plot([1, end], [1, end], color="0.6", linestyle="--", label="stops when first right")
    pairs, count = np.unique(np.stack([first, steps], 1), axis=0, return_counts=True)
    axes.scatter(pairs[:, 0], pairs[:, 1], s=20 + 220 * count / count.max(initial=1), color=ACCENT)
    axes.set_xlabel("first supervision step that is right")
    axes.set_ylabel("supervision steps taken")
    axes.locator_params(integer=True)
    axes.legend(loc="lower right", frameon=False)


def _table(columns: _Columns) -> list[list[str]]:
    groups = {
        "all": np.ones_like(columns.solved),
        "solved by full depth": columns.solved,
        "not solved": ~columns.solved,
    }
    lines = []
    for name, chosen in groups.items():
        steps = columns.steps[chosen]
        measures = ["-"] * 5
        if len(steps):
            measures = [
                f"{columns.right[chosen].mean():.4f}",
                f"{steps.mean():.2f}",
                f"{steps.std():.2f}",
                str(steps.min()),
                str(steps.max()),
            ]
        lines.append([name, str(len(steps)), *measures])
    return lines
