"""Bootstrap: how far a score may be off because the split, of N rows, is finite.

A thousand draws of the same rows are scored, and reading numbers out of rows takes longer than
computing with them: so they are read once however often the rows are drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..seeding import numpy_generator
from ..training.task import Row, Task

Reader = Callable[[Sequence[Row]], NDArray[Any]]
"""Rows -> an array [N, ...] in whose entry i only row i counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnRows(Sequence[Row]):
    """One draw of a bootstrap: `rows[i]` for each i of `chosen`, fast to read numbers of."""

    rows: Sequence[Row]
    chosen: NDArray[np.int64]
    """[N], with repetitions."""
    known: dict[Reader, NDArray[Any]] = field(default_factory=dict)
    """What `numbers` has read of `rows`; draws from the same rows share it."""

    @cached_property
    def _drawn(self) -> list[Row]:
        return [self.rows[i] for i in self.chosen.tolist()]

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._drawn)

    def __getitem__(self, index: Any) -> Any:
        return self._drawn[index]


def numbers(rows: Sequence[Row], reader: Reader) -> NDArray[Any]:
    """The array `reader(rows)`; of a bootstrap's draws, `reader` reads the whole rows only once.

    `reader` is a function that lives as long as the rows: it is recognised by its identity.
    """
    if not isinstance(rows, DrawnRows):
        return reader(rows)
    if reader not in rows.known:
        rows.known[reader] = reader(rows.rows)
    found: NDArray[Any] = rows.known[reader][rows.chosen]
    return found


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score and the low and high end of its bootstrap interval."""

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
        values = [each for each in draws.get(name, []) if np.isfinite(each)]
        low, high = np.percentile(values, [tail, 100 - tail]) if values else (value, value)
        intervals[name] = Interval(value=value, low=float(low), high=float(high))
    return intervals
