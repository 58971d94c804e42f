"""Numbers are read from rows once, and drawn rows are rows like any other."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from reference_reasoner.engine.evaluation.classification import (
    classification_scores,
)
from reference_reasoner.engine.evaluation.drawn_rows import DrawnRows, numbers
from reference_reasoner.engine.evaluation.intervals import bootstrap_intervals
from reference_reasoner.engine.training.task import Row

from ..toy.task import ToyTask, toy

ROWS = [Row(example_id=i, target=i % 3, output=[0.2, 0.5, 0.3]) for i in range(5)]
CHOSEN = np.array([3, 0, 3, 4])


def test_drawn_rows_are_a_sequence() -> None:
    drawn = DrawnRows(rows=ROWS, chosen=CHOSEN)
    expected = [ROWS[3], ROWS[0], ROWS[3], ROWS[4]]
    assert (len(drawn), list(drawn), drawn[1], drawn[-1]) == (4, expected, ROWS[0], ROWS[4])
    assert drawn[1:3] == expected[1:3]
    assert ROWS[0] in drawn
    assert ROWS[1] not in drawn
    assert not DrawnRows(rows=ROWS, chosen=CHOSEN[:0])


def test_what_is_drawn_was_read_once() -> None:
    calls = []

    def ids(rows: Sequence[Row]) -> NDArray[np.int64]:
        calls.append(len(rows))
        return np.array([row.example_id for row in rows])

    known = {}
    for _ in range(3):
        drawn = DrawnRows(rows=ROWS, chosen=CHOSEN, known=known)
        assert numbers(drawn, ids).tolist() == [3, 0, 3, 4]
    assert calls == [5]
    assert numbers(ROWS, ids).tolist() == [0, 1, 2, 3, 4]


def test_a_bootstrap_scores_the_rows_that_it_draws() -> None:
    class Classifying(ToyTask):
        def scores(self, rows: Sequence[Row]) -> dict[str, float]:
            found = classification_scores(rows)
            assert found == classification_scores(list(rows))
            return found

    generator = np.random.default_rng(0)
    rows = [
        Row(
            example_id=i,
            target=int(generator.integers(3)),
            output=list(generator.dirichlet([1] * 3)),
        )
        for i in range(40)
    ]
    found = bootstrap_intervals(Classifying(toy()), rows, resamples=50)
    assert found["accuracy"].low < found["accuracy"].value < found["accuracy"].high


@pytest.mark.parametrize("count", [1, 30])
def test_a_score_that_no_draw_has_has_no_width(count: int) -> None:
    class Whole(ToyTask):
        def scores(self, rows: Sequence[Row]) -> dict[str, float]:
            return {"whole": 1.0} if isinstance(rows, list) else {}

    rows = [Row(example_id=i, target=0, output=0.0) for i in range(count)]
    found = bootstrap_intervals(Whole(toy()), rows, resamples=20)["whole"]
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)
