"""Scores of halting, against numbers worked out by hand and scipy's rank correlation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference_reasoner.engine.evaluation.bootstrap import DrawnRows
from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.evaluation.answers import answer_scores
from reference_reasoner.reasoner.evaluation.halting import (
    halting_scores,
    halting_section,
    spearman,
)
from reference_reasoner.reasoner.evaluation.halting_threshold import tuned_scores


def row(
    steps: int,
    first_correct: int | None,
    *,
    right: bool = True,
    solved: bool = True,
    confidence: float | None = 0.9,
    **slices: str,
) -> Row:
    output = {
        "answer": "",
        "steps": steps,
        "first_correct": first_correct,
        "right_at_full_depth": solved,
        "right": right,
    }
    return Row(example_id=7, target="", output=output, confidence=confidence, slices=slices)


ROWS = [
    row(2, 2, confidence=0.95, difficulty="1"),
    row(5, 3, confidence=0.92, difficulty="4"),
    row(3, 5, right=False, confidence=0.75, difficulty="2"),
    row(16, None, right=False, solved=False, confidence=0.1, difficulty="9"),
    row(8, 2, solved=False, confidence=0.3, difficulty="3"),  # right once, and not at the end
]


def test_scores_are_those_worked_out_by_hand() -> None:
    found = halting_scores(ROWS)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["accuracy_at_full_depth"] == pytest.approx(3 / 5)
    assert found["mean_steps"] == pytest.approx(34 / 5)
    squares = sum((steps - 6.8) ** 2 for steps in (2, 5, 3, 16, 8))
    assert found["std_steps"] == pytest.approx((squares / 5) ** 0.5)
    assert found["std_steps_solved"] == pytest.approx((14 / 9) ** 0.5)
    assert (found["fewest_steps"], found["most_steps"]) == (2, 16)
    # solved only: ranks of the steps 1 3 2, of the first correct steps 1 2 3
    assert found["spearman_first_correct"] == pytest.approx(0.5)
    assert found["spearman_difficulty"] == pytest.approx(1)  # and of the difficulties 1 3 2
    # bins by confidence: 0.95 and 0.92, 0.75 (wrong), 0.1 (wrong), 0.3
    error = 2 * (1 - 0.935) + 0.75 + 0.1 + 0.7
    assert found["calibration_error"] == pytest.approx(error / 5)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 25, 100], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / (4.5 * 5) ** 0.5),  # ranks 1 2.5 2.5 4
        ([1, 1, 2, 2], [1, 2, 1, 2], 0),
        ([5, 5, 5], [1, 2, 3], 0),
        ([1, 2, 3], [5, 5, 5], 0),
        ([1], [1], 0),
        ([], [], 0),
    ],
)
def test_rank_correlation_by_hand(first: list[int], second: list[int], expected: float) -> None:
    assert spearman(np.array(first), np.array(second)) == pytest.approx(expected)


def test_rank_correlation_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    for kinds in (2, 5, 1000):  # many ties, some, hardly any
        first, noise = generator.integers(0, kinds, (2, 200))
        second = first + noise
        expected = stats.spearmanr(first, second).statistic
        assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


def accepted(scores: dict[str, float], most: int) -> bool:
    return (
        scores["std_steps_solved"] >= 1
        and scores["spearman_first_correct"] >= 0.5
        and scores["spearman_difficulty"] >= 0.3
        and scores["accuracy"] >= scores["accuracy_at_full_depth"] - 0.01
        and scores["mean_steps"] <= 0.5 * most
        and scores["calibration_error"] <= 0.1
        and scores["fewest_steps"] < scores["most_steps"]
    )


def needed(i: int) -> int:
    return 1 + i % 6


def test_steps_that_follow_need_are_accepted() -> None:
    rows = [
        row(needed(i) + 1, needed(i), confidence=0.97, difficulty=str(needed(i))) for i in range(60)
    ]
    assert accepted(halting_scores(rows), most=16)


@pytest.mark.parametrize("steps", [7, 16])
@pytest.mark.parametrize("constant", ["all", "solved"])
def test_a_constant_head_is_not_accepted(steps: int, constant: str) -> None:
    rows = [row(steps, needed(i), difficulty=str(needed(i))) for i in range(60)]
    if constant == "solved":  # items that nothing solves spread the steps, and prove nothing
        rows += [
            row(1, None, right=False, solved=False, confidence=0.0, difficulty="9")
            for _ in range(10)
        ]
    scores = halting_scores(rows)
    assert (scores["std_steps"] < 1) == (constant == "all")
    assert scores["std_steps_solved"] == 0
    assert scores["spearman_first_correct"] == 0
    assert scores["spearman_difficulty"] == 0
    assert not accepted(scores, most=16)


def test_nothing_solved_has_scores_too() -> None:
    rows = [row(16, None, right=False, solved=False, difficulty=str(i)) for i in range(3)]
    scores = halting_scores(rows)
    assert scores["accuracy_at_full_depth"] == 0
    assert scores["std_steps_solved"] == 0
    assert scores["spearman_first_correct"] == 0
    assert scores["spearman_difficulty"] == 0


@pytest.mark.parametrize("slices", [{}, {"difficulty": "hard"}, {"difficulty": "nan"}])
def test_difficulty_needs_a_number_in_each_row(slices: dict[str, str]) -> None:
    scores = halting_scores([row(2, 2, difficulty="1"), row(3, 2, **slices)])
    assert "spearman_difficulty" not in scores


def test_calibration_needs_a_confidence_in_each_row() -> None:
    assert "calibration_error" not in halting_scores([row(2, 2), row(3, 2, confidence=None)])


def test_a_low_confidence_is_not_taken_for_confidence_in_being_wrong() -> None:
    rows = [row(3, 1, right=False, confidence=confidence) for confidence in (0.72, 0.28)]
    # two bins, each off by its confidence; as max(p, 1 - p) both would share one and cancel
    assert halting_scores(rows)["calibration_error"] == pytest.approx(0.5)


def test_rows_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        halting_scores([])
    with pytest.raises(ValueError, match="example 7 is right at full depth but"):
        halting_scores([row(3, None)])


def random_rows(count: int) -> list[Row]:
    """With all that a task's rows have."""
    generator = np.random.default_rng(0)
    rows = []
    for i in range(count):
        first = int(generator.integers(1, 7))
        right = [step >= first for step in range(1, 6)]
        sure = [round(float(generator.uniform(0, 0.9 if each else 0.6)), 6) for each in right]
        taken = next((n for n, p in enumerate(sure) if p > 0.5), 4)
        output = {
            "answer": generator.integers(0, 2, 3).tolist(),
            "steps": taken + 1,
            "first_correct": first if first < 6 else None,
            "right": right[taken],
            "right_at_full_depth": right[-1],
            "right_by_step": right,
            "confidences": sure,
        }
        slices = {"difficulty": str(first), "minimal": "yes" if i % 4 else "no"}
        rows.append(
            Row(
                example_id=i, target=[0, 1, 1], output=output, confidence=sure[taken], slices=slices
            )
        )
    return rows


def test_rows_that_are_drawn_score_as_rows_that_are_given() -> None:
    rows, known = random_rows(60), {}
    generator = np.random.default_rng(1)
    for _ in range(10):
        drawn = DrawnRows(rows=rows, chosen=generator.integers(0, 60, 60), known=known)
        for scores in (answer_scores, halting_scores, tuned_scores):
            assert scores(drawn) == scores(list(drawn))
    assert "accuracy_minimal" in halting_scores(rows)


def test_tokens_and_rows_are_counted_as_right() -> None:
    rows = random_rows(5)
    pairs = [(a, b) for row in rows for a, b in zip(row.output["answer"], [0, 1, 1], strict=True)]
    found = answer_scores(rows)
    assert found["token_accuracy"] == sum(a == b for a, b in pairs) / 15
    assert found["accuracy"] == sum(row.output["right"] for row in rows) / 5


def cells(found: Any) -> dict[str, list[str]]:
    return {line[0]: list(line[1:]) for line in found.table[1]}


def test_the_section_has_a_picture_and_a_table(tmp_path: Path) -> None:
    found = halting_section(ROWS, tmp_path)
    assert found.pictures == ["halting.png"]
    assert (tmp_path / "halting.png").read_bytes().startswith(b"\x89PNG")
    assert "spearman_first_correct 0.500, spearman_difficulty 1.000, calib" in found.text
    assert cells(found) == {
        "all": ["5", "0.6000", "6.80", "5.04", "2", "16"],
        "solved by full depth": ["3", "0.6667", "3.33", "1.25", "2", "5"],
        "not solved": ["2", "0.5000", "12.00", "4.00", "8", "16"],
    }


@pytest.mark.parametrize("solved", [True, False])
def test_a_section_with_one_kind_of_item_only(tmp_path: Path, solved: bool) -> None:
    rows = [row(1, 1 if solved else None, right=solved, solved=solved)]
    table = cells(halting_section(rows, tmp_path))
    assert table["not solved" if solved else "solved by full depth"] == ["0", *["-"] * 5]
    assert (tmp_path / "halting.png").exists()
