"""Steps in doubt, against numbers worked out by hand."""

import pytest

from reference_reasoner.engine.evaluation.bootstrap import DrawnRows
from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.evaluation.halting_by_step import step_scores


def row(right: list[bool], confidences: list[float]) -> Row:
    output = {"right_by_step": right, "confidences": confidences}
    return Row(example_id=0, target="", output=output, confidence=None)


ROWS = [
    row([True, True, True], [0.95, 0.9, 1.0]),
    row([False, True, True], [0.35, 0.5, 1.0]),
    row([False, True, True], [0.15, 0.9, 1.0]),
    row([True, False, False], [0.85, 0.9, 0.9]),
    row([False, True, True], [0.15, 0.9, 1.0]),
]


def test_they_are_those_worked_out_by_hand() -> None:
    found = step_scores(ROWS)
    assert found["later_than_first"] == pytest.approx(3 / 4)  # of the four solved at the end
    # only the first step, .4 right, and the others, .8 right, are in doubt: all three
    first = [(0.95, 1), (0.35, 0), (0.15, 0), (0.85, 1), (0.15, 0)]
    second = [(0.9, 1), (0.5, 1), (0.9, 1), (0.9, 0), (0.9, 1)]
    third = [(1.0, 1), (1.0, 1), (1.0, 1), (0.9, 0), (1.0, 1)]
    bins: dict[int, list[tuple[float, int]]] = {}
    for sure, right in (*first, *second, *third):
        bins.setdefault(min(9, int(sure * 10)), []).append((sure, right))
    error = sum(abs(sum(s for s, _ in b) - sum(r for _, r in b)) for b in bins.values()) / 15
    assert found["calibration_error_in_doubt"] == pytest.approx(error)


def test_steps_that_are_not_in_doubt_do_not_count() -> None:
    sure_of_itself = [row([i < 1, True], [float(i < 1), 0.0]) for i in range(4)]
    found = step_scores(sure_of_itself)
    # the second step is right for all, and the head that denies it is not asked
    assert found == {"later_than_first": 0.75, "calibration_error_in_doubt": 0.0}
    assert step_scores([row([True], [0.0])]) == {"later_than_first": 0.0}
    assert step_scores([row([False], [1.0])]) == {"later_than_first": 0.0}


def test_drawn_rows_are_read_once_and_score_alike() -> None:
    import numpy as np

    chosen = np.array([0, 0, 3, 1, 2])
    drawn = DrawnRows(rows=ROWS, chosen=chosen)
    assert step_scores(drawn) == step_scores([ROWS[i] for i in chosen])
