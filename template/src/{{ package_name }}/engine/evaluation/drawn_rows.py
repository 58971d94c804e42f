"""Numbers read from rows, once however often the rows are drawn.

A bootstrap scores a thousand draws of the same rows, and reading numbers out of rows takes longer
than computing with them. N rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..training.task import Row

Reader = Callable[[Sequence[Row]], NDArray[Any]]
"""Rows -> an array [N, ...] in whose entry i only row i counts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnRows(Sequence[Row]):
    """The row `rows[i]` for each i of `chosen`: a sequence like any other, and fast to read."""

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

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...

    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self._drawn[index]


def numbers(rows: Sequence[Row], reader: Reader) -> NDArray[Any]:
    """`reader(rows)`; of drawn rows it reads those that they are drawn from, at the first draw.

    `reader` is a function that lives as long as the rows: it is recognised by its identity.
    """
    if not isinstance(rows, DrawnRows):
        return reader(rows)
    if reader not in rows.known:
        rows.known[reader] = reader(rows.rows)
    found: NDArray[Any] = rows.known[reader][rows.chosen]
    return found
