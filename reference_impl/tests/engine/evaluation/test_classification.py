"""Scores and pictures of a classifier, against numbers worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pytest

from reference_reasoner.engine.evaluation.classification import (
    calibration_bins,
    calibration_section,
    classification_scores,
    confusion_matrix,
    confusion_matrix_section,
    per_class_section,
    precision_recall_f1,
)
from reference_reasoner.engine.training.task import Row

NAMES = ("a", "b", "c")


def row(target: int, *output: float) -> Row:
    return Row(example_id=0, target=target, output=list(output))


ROWS = [
    row(0, 0.8, 0.1, 0.1),
    row(0, 0.2, 0.5, 0.3),
    row(1, 0.1, 0.85, 0.05),
    row(1, 0.05, 0.9, 0.05),
]


def test_confusion_counts_true_by_predicted() -> None:
    assert confusion_matrix(ROWS).tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_scores_are_those_worked_out_by_hand() -> None:
    found = classification_scores(ROWS)
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 2)  # class c does not occur
    logs = [math.log(p) for p in (0.8, 0.2, 0.85, 0.9)]
    assert found["cross_entropy"] == pytest.approx(-sum(logs) / 4)
    # bins: 0.5 (wrong), 0.8 and 0.85 (right), 0.9 (right)
    assert found["calibration_error"] == pytest.approx((0.5 + 2 * 0.175 + 0.1) / 4)


def test_precision_and_recall_are_zero_where_nothing_is() -> None:
    precision, recall, f1 = precision_recall_f1(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]))
    assert precision.tolist() == pytest.approx([1, 2 / 3, 0])
    assert recall.tolist() == pytest.approx([0.5, 1, 0])
    assert f1.tolist() == pytest.approx([2 / 3, 0.8, 0])


def test_a_confidence_of_one_falls_into_the_last_bin() -> None:
    count, confidence, accuracy = calibration_bins([row(0, 1.0, 0.0)])
    assert (count[-1], confidence[-1], accuracy[-1]) == (1, 1, 1)


def test_a_probability_of_zero_costs_much_but_not_everything() -> None:
    assert 27 < classification_scores([row(0, 0.0, 1.0)])["cross_entropy"] < 28


def test_sections_draw_their_pictures(tmp_path: Path) -> None:
    confusion = confusion_matrix_section(ROWS, NAMES, tmp_path)
    calibration = calibration_section(ROWS, tmp_path)
    assert confusion.text.startswith("1 of 4 examples are wrong")
    assert "0.2375" in calibration.text
    for section in (confusion, calibration):
        for name in section.pictures:
            assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_table_has_a_row_a_class() -> None:
    section = per_class_section(ROWS, NAMES)
    assert section.table is not None
    assert section.table[1][1] == ["b", "0.667", "1.000", "0.800", "2"]
