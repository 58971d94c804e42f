"""Bootstrap intervals."""

from collections.abc import Sequence

import numpy as np
import pytest

from reference_reasoner.engine.evaluation.intervals import bootstrap_intervals
from reference_reasoner.engine.training.task import Row

from ..toy.task import ToyTask, toy


class MeanTask(ToyTask):
    """Scores the mean of the outputs, and a mean that most draws do not have."""

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        outputs = [row.output for row in rows]
        first = [row.output for row in rows if row.example_id == 0]
        mean = sum(outputs) / len(outputs)
        return {"mean": mean, "of first": sum(first) / len(first) if first else float("nan")}


def rows(count: int) -> list[Row]:
    values = np.random.default_rng(0).normal(size=count)
    return [Row(example_id=i, target=0, output=float(v)) for i, v in enumerate(values)]


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    sample = rows(400)
    found = bootstrap_intervals(MeanTask(toy()), sample)["mean"]
    outputs = np.array([row.output for row in sample])
    half = 1.96 * outputs.std() / 20
    assert found.value == pytest.approx(outputs.mean())
    assert found.low == pytest.approx(outputs.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(outputs.mean() + half, abs=0.15 * half)


def test_the_same_rows_give_the_same_interval() -> None:
    task, sample = MeanTask(toy()), rows(30)
    assert bootstrap_intervals(task, sample) == bootstrap_intervals(task, sample)


def test_draws_without_a_score_are_left_out() -> None:
    found = bootstrap_intervals(MeanTask(toy()), rows(30))["of first"]
    assert found.low == found.value == found.high


def test_a_score_without_any_draw_has_no_width() -> None:
    class Never(MeanTask):
        def scores(self, rows: Sequence[Row]) -> dict[str, float]:
            whole = len({row.example_id for row in rows}) == len(rows)
            return {"mean": 1.0 if whole else float("nan")}

    found = bootstrap_intervals(Never(toy()), rows(30), resamples=20)["mean"]
    assert (found.low, found.high) == (1.0, 1.0)
