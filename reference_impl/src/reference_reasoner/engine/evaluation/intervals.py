"""How far a score may be off because the split is finite."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeding import numpy_generator
from ..training.task import Row, Task
from .drawn_rows import DrawnRows, Reader


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score and its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_intervals(
    task: Task[Any], rows: Sequence[Row], *, resamples: int = 1000, level: float = 0.95
) -> dict[str, Interval]:
    """{metric: score and percentile bootstrap interval} (Efron and Tibshirani 1993, ch. 13).

    Rows are drawn with replacement and the task scores each draw; the draws are keyed, so the
    same rows give the same interval. A draw on which a score is not finite, or not there, is left
    out of it.
    """
    generator = numpy_generator(0, "bootstrap", len(rows))
    draws: dict[str, list[float]] = {}
    known: dict[Reader, NDArray[Any]] = {}
    for _ in range(resamples):
        chosen = generator.integers(0, len(rows), len(rows))
        for name, value in task.scores(DrawnRows(rows=rows, chosen=chosen, known=known)).items():
            draws.setdefault(name, []).append(value)
    tail = 100 * (1 - level) / 2
    intervals = {}
    for name, value in task.scores(rows).items():
        values = np.array(draws.get(name, []))
        values = values[np.isfinite(values)]
        bounds = np.percentile(values, [tail, 100 - tail]) if len(values) else [value, value]
        intervals[name] = Interval(value=value, low=float(bounds[0]), high=float(bounds[1]))
    return intervals
