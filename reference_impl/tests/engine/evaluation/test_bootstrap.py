"""Bootstrap intervals, and the drawn rows whose numbers are read once."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from reference_reasoner.engine.evaluation.bootstrap import (
    DrawnRows,
    bootstrap_intervals,
    numbers,
)
from reference_reasoner.engine.evaluation.classification import (
    classification_scores,
)
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


class MeanTask(ToyTask):
    """Scores the mean of the outputs, and a mean that most draws do not have."""

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        outputs = [row.output for row in rows]
        first = [row.output for row in rows if row.example_id == 0]
        mean = sum(outputs) / len(outputs)
        return {"mean": mean, "of first": sum(first) / len(first) if first else float("nan")}


def normal_rows(count: int) -> list[Row]:
    values = np.random.default_rng(0).normal(size=count)
    return [Row(example_id=i, target=0, output=float(v)) for i, v in enumerate(values)]


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    sample = normal_rows(400)
    found = bootstrap_intervals(MeanTask(toy()), sample)["mean"]
    outputs = np.array([row.output for row in sample])
    half = 1.96 * outputs.std() / 20
    assert found.value == pytest.approx(outputs.mean())
    assert found.low == pytest.approx(outputs.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(outputs.mean() + half, abs=0.15 * half)


def test_the_same_rows_give_the_same_interval() -> None:
    task, sample = MeanTask(toy()), normal_rows(30)
    assert bootstrap_intervals(task, sample) == bootstrap_intervals(task, sample)


def test_draws_without_a_score_are_left_out() -> None:
    found = bootstrap_intervals(MeanTask(toy()), normal_rows(30))["of first"]
    assert found.low == found.value == found.high


def test_a_score_without_any_draw_has_no_width() -> None:
    class Never(MeanTask):
        def scores(self, rows: Sequence[Row]) -> dict[str, float]:
            whole = len({row.example_id for row in rows}) == len(rows)
            return {"mean": 1.0 if whole else float("nan")}

    found = bootstrap_intervals(Never(toy()), normal_rows(30), resamples=20)["mean"]
    assert (found.low, found.high) == (1.0, 1.0)
