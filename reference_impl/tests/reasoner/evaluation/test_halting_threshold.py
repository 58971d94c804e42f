"""A tuned threshold, against a look at every threshold and every row."""

import pytest

from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.evaluation.halting_threshold import (
    next_threshold,
    tuned_scores,
)
from reference_reasoner.reasoner.models.act_head import THRESHOLDS

STEPS = 6


def row(number: int, sure: list[float], right: list[bool]) -> Row:
    output = {"confidences": sure, "right_by_step": right}
    return Row(example_id=number, target=[], output=output, confidence=None, slices={})


def rising(count: int) -> list[Row]:
    """Right from a step on, and surer from then on; some are surer too early."""
    rows = []
    for number in range(count):
        first = number % 4
        early = 0.15 + 0.5 * (number % 7) / 7
        sure = [early if step < first else 0.9 + 0.01 * step for step in range(STEPS)]
        rows.append(row(number, sure, [step >= first for step in range(STEPS)]))
    return rows


def at(threshold: float, rows: list[Row]) -> tuple[int, float, float]:
    """Rows lost, accuracy at the stop and mean steps."""
    lost, right, taken = 0, 0, 0
    for each in rows:
        sure, answers = each.output["confidences"], each.output["right_by_step"]
        step = next((n for n, p in enumerate(sure) if p > threshold), STEPS - 1)
        lost += answers[-1] and not answers[step]
        right += answers[step]
        taken += step + 1
    return lost, right / len(rows), taken / len(rows)


def test_the_threshold_is_the_next_after_the_lowest_that_loses_nothing() -> None:
    rows = rising(60)
    lowest = next(each for each in THRESHOLDS if at(each, rows)[0] == 0)
    assert 0.1 < lowest < 0.85
    taken = next_threshold(lowest)
    found = tuned_scores(rows)
    names = ("threshold", "tuned_accuracy", "tuned_mean_steps")
    assert tuple(found[name] for name in names) == pytest.approx((taken, *at(taken, rows)[1:]))
    assert at(taken, rows)[2] <= STEPS / 2


def test_the_lowest_itself_is_taken_where_the_next_saves_too_little() -> None:
    # right and sure by .925 at the first step, after a step that was wrong for one of them
    sure = [0.925, *[0.97] * (STEPS - 1)]
    rows = [row(number, sure, [True] * STEPS) for number in range(9)]
    rows.append(row(9, [0.89, *[0.97] * (STEPS - 1)], [False] + [True] * (STEPS - 1)))
    late = [0.94] * (STEPS - 1) + [0.97]
    rows += [row(number, late, [True] * STEPS) for number in range(10, 30)]
    found = tuned_scores(rows)
    assert at(next_threshold(0.9), rows)[2] > STEPS / 2
    assert found["threshold"] == 0.9
    assert at(0.9, rows)[0] == 0 < at(0.85, rows)[0]


def test_after_the_last_threshold_nothing_stops() -> None:
    assert next_threshold(THRESHOLDS[-1]) == next_threshold(1.0) == 1.0
    assert next_threshold(0.5) == THRESHOLDS[THRESHOLDS.index(0.5) + 1]


def test_half_a_point_may_go_where_losing_nothing_saves_less_than_half_of_the_steps() -> None:
    # the one row that is sure and wrong lets nothing stop before the head is sure of itself
    wrong = row(-1, [0.975] + [0.985] * (STEPS - 1), [False] + [True] * (STEPS - 1))
    most = rising(199)
    found = tuned_scores([*most, wrong])
    assert found["threshold"] == next(each for each in THRESHOLDS if at(each, most)[0] == 0)
    assert found["tuned_accuracy"] == pytest.approx(1 - 1 / 200)
    # of fewer rows one is more than half a point
    assert tuned_scores([*most[:150], wrong])["threshold"] == 0.98
    # and where nothing stops, nothing is lost
    assert tuned_scores([wrong])["tuned_accuracy"] == 1
