"""Paired differences, their intervals, and what may be said of them."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reference_reasoner.engine.seeding import numpy_generator
from reference_reasoner.engine.studies.comparison import compare
from reference_reasoner.engine.training.task import Row

from ..toy.task import ToyTask, toy


class Mean(ToyTask):
    """The mean of the outputs."""

    primary_metric = "mean"

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        return {"other": 0.0, "mean": statistics.fmean(row.output for row in rows)}


class Cost(Mean):
    """The same, and less is better."""

    direction = "min"


TASK = Mean(toy())
NOISE = np.random.default_rng(0).normal(size=(3, 40))


def rows(outputs: Sequence[float], first_id: int = 0) -> list[Row]:
    return [
        Row(example_id=first_id + i, target=0, output=float(v), confidence=None)
        for i, v in enumerate(outputs)
    ]


def by_seed(shift: float = 0.0, seeds: Sequence[int] = (0, 1, 2), **kwargs: Any) -> Any:
    return {seed: rows(NOISE[seed] + shift, **kwargs) for seed in seeds}


def test_pairs_cancel_what_is_hard_for_both() -> None:
    found = compare(TASK, {"baseline": by_seed(), "up": by_seed(0.1)}, draws=200)
    baseline, up = found.lines
    assert baseline.difference is None
    assert baseline.mean.high - baseline.mean.low > 0.2  # the scores themselves are not known well
    assert up.difference is not None
    for bound in (up.difference.value, up.difference.low, up.difference.high):
        assert bound == pytest.approx(0.1)
    assert up.verdict == "better"
    assert (found.metric, found.examples) == ("mean", 40)


def test_the_same_predictions_are_not_told_apart() -> None:
    found = compare(TASK, {"baseline": by_seed(), "same": by_seed()}, draws=50)
    assert found.lines[1].difference == replace(found.lines[1].difference, value=0, low=0, high=0)  # type: ignore[type-var]
    assert found.lines[1].verdict == "not told apart"


def test_where_less_is_better_less_is_better() -> None:
    task = Cost(toy())
    found = compare(
        task, {"baseline": by_seed(), "up": by_seed(0.1), "down": by_seed(-0.1)}, draws=50
    )
    assert [line.verdict for line in found.lines] == ["", "worse", "better"]


def test_the_spread_over_seeds_and_its_mean() -> None:
    found = compare(TASK, {"baseline": by_seed()}, draws=50)
    means = [statistics.fmean(row) for row in NOISE.tolist()]
    (line,) = found.lines
    assert line.by_seed == pytest.approx(dict(enumerate(means)))
    assert line.mean.value == pytest.approx(statistics.fmean(means))
    assert line.std == pytest.approx(statistics.stdev(means))
    assert compare(TASK, {"baseline": by_seed(seeds=[1])}, draws=5).lines[0].std is None


def test_more_comparisons_widen_each_interval() -> None:
    noisy = {seed: rows(NOISE[seed][::-1]) for seed in range(3)}
    one = compare(TASK, {"baseline": by_seed(), "a": noisy}, draws=400)
    many = compare(TASK, {"baseline": by_seed(), **dict.fromkeys("abcde", noisy)}, draws=400)
    assert one.level == pytest.approx(0.95)
    assert many.level == pytest.approx(0.99)
    narrow, wide = one.lines[1].difference, many.lines[1].difference
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_plain_twin_gives_the_same_interval() -> None:
    noisy = {seed: rows(NOISE[seed][::-1]) for seed in range(3)}
    found = compare(TASK, {"baseline": by_seed(), "a": noisy}, draws=100).lines[1].difference
    chosen_seeds = numpy_generator(0, "study", "seeds", 3).integers(0, 3, (3, 100))
    means = []
    for draw in range(100):
        examples = numpy_generator(0, "study", "examples", 40, draw).integers(0, 40, 40)
        total = 0.0
        for seed in chosen_seeds[:, draw].tolist():
            total += statistics.fmean(NOISE[seed][::-1][i] - NOISE[seed][i] for i in examples)
        means.append(total / 3)
    assert found is not None
    assert found.low == pytest.approx(np.percentile(means, 2.5))
    assert found.high == pytest.approx(np.percentile(means, 97.5))


def test_only_the_seeds_and_examples_of_both_are_compared() -> None:
    found = compare(
        TASK,
        {
            "baseline": by_seed(seeds=[0, 1]),
            "fewer": by_seed(0.1, seeds=[1, 2]),
            "other seeds": by_seed(seeds=[2]),
            "other examples": by_seed(first_id=7),
            "failed": {},
        },
        draws=20,
    )
    lines = {line.name: line for line in found.lines}
    assert set(lines) == {"baseline", "fewer", "other seeds", "other examples"}
    assert lines["fewer"].difference is not None
    assert lines["fewer"].difference.value == pytest.approx(0.1)
    assert lines["other seeds"].difference is None
    assert lines["other examples"].difference is None
    assert lines["other examples"].verdict == ""


@pytest.mark.parametrize("outcomes", [{}, {"baseline": {}, "a": by_seed()}])
def test_nothing_to_compare_with(outcomes: Any) -> None:
    with pytest.raises(ValueError, match="baseline has no predictions"):
        compare(TASK, outcomes)


def test_a_draw_without_a_score_is_left_out() -> None:
    class Sometimes(Mean):
        def scores(self, rows: Sequence[Row]) -> dict[str, float]:
            ids = {row.example_id for row in rows}
            value = statistics.fmean(row.output for row in rows)
            return {"mean": value if 0 in ids else math.nan}

    (line,) = compare(Sometimes(toy()), {"baseline": by_seed(seeds=[0])}, draws=100).lines
    assert math.isfinite(line.mean.low)
    assert math.isfinite(line.mean.high)
