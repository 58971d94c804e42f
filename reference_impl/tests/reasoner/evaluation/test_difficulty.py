"""Scores by difficulty, minimal items apart."""

from pathlib import Path

import numpy as np
import pytest

from reference_reasoner.engine.evaluation.bootstrap import DrawnRows
from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.evaluation.difficulty import (
    MOST_GROUPS,
    accuracy_apart,
    accuracy_by_guesses,
    difficulty_groups,
    difficulty_section,
)


def row_of(
    number: int, difficulty: str, *, right: bool = True, steps: int = 2, **slices: str
) -> Row:
    output = {"right": right, "steps": steps}
    slices = {"difficulty": difficulty, **slices}
    return Row(example_id=number, target=[], output=output, slices=slices)


def mixed() -> list[Row]:
    """Six empty cells are minimal in one puzzle and not in another."""
    return [
        row_of(0, "6", minimal="yes", right=False, steps=9),
        row_of(1, "6", minimal="no", steps=2),
        row_of(2, "4", minimal="no", steps=1),
        row_of(3, "7", minimal="yes", steps=5),
        row_of(4, "5", minimal="yes", steps=6),
    ]


def test_each_difficulty_is_scored_alone(tmp_path: Path) -> None:
    rows = [
        row_of(0, "10", right=False, steps=4),
        row_of(1, "4", steps=1),
        row_of(2, "10", right=True, steps=3),
        row_of(3, "4", steps=2),
    ]
    section = difficulty_section(rows, tmp_path, "number of blanks")
    assert section.table is not None
    header, table = section.table
    assert header == ["number of blanks", "items", "right", "mean steps"]
    # as numbers, not as words: 4 comes before 10
    assert table == [["4", "2", "1.0000", "1.50"], ["10", "2", "0.5000", "3.50"]]
    assert "number of blanks" in section.text
    assert [(tmp_path / name).read_bytes()[:4] for name in section.pictures] == [b"\x89PNG"]


def test_many_difficulties_share_lines() -> None:
    rows = [row_of(i, str(i // 2)) for i in range(100)]
    groups = difficulty_groups(rows)
    assert len(groups) == MOST_GROUPS
    assert next(iter(groups)) == "0-3"
    assert list(groups)[-1] == "47-49"
    assert [row for chosen in groups.values() for row in chosen] == rows
    assert list(difficulty_groups(rows[:30])) == [str(i) for i in range(15)]


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        difficulty_groups([])


def test_minimal_items_are_in_a_group_of_their_own_only(tmp_path: Path) -> None:
    section = difficulty_section(mixed(), tmp_path, "empty cells")
    assert section.table is not None
    assert section.table[1] == [
        ["4", "1", "1.0000", "1.00"],
        ["6", "1", "1.0000", "2.00"],
        ["minimal", "3", "0.6667", "6.67"],
    ]
    assert "Minimal items" in section.text
    assert "here 5-7" in section.text
    assert (tmp_path / "difficulty.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("minimal", ["yes", "no"])
def test_items_of_one_kind_are_grouped_by_difficulty(tmp_path: Path, minimal: str) -> None:
    rows = [row for row in mixed() if row.slices["minimal"] == minimal]
    expected = {"yes": ["5", "6", "7"], "no": ["4", "6"]}[minimal]
    assert list(difficulty_groups(rows)) == expected
    assert "inimal" not in difficulty_section(rows, tmp_path, "empty cells").text


def test_the_accuracy_of_minimal_items_is_told_where_there_are_others() -> None:
    rows = mixed()
    right = np.array([row.output["right"] for row in rows])
    assert accuracy_apart(rows, right) == {"accuracy_minimal": pytest.approx(2 / 3)}
    for chosen in ([0, 3, 4], [1, 2]):
        drawn = DrawnRows(rows=rows, chosen=np.array(chosen))
        assert accuracy_apart(drawn, right[chosen]) == {}
    assert accuracy_apart([row_of(0, "3")], np.array([True])) == {}


def test_accuracy_by_guesses() -> None:
    asked = ["0", "5", "4", "1", "1000", "4"]
    right = [True, True, False, True, False, True]
    pairs = zip(asked, right, strict=True)
    rows = [row_of(i, "50", right=r, guesses=g) for i, (g, r) in enumerate(pairs)]
    assert accuracy_by_guesses(rows) == {
        "accuracy_guesses_0": 1.0,
        "accuracy_guesses_1_to_4": pytest.approx(2 / 3),
        "accuracy_guesses_5_up": 0.5,
    }
    drawn = DrawnRows(rows=rows, chosen=np.array([2, 4, 4]))
    assert accuracy_by_guesses(drawn) == {
        "accuracy_guesses_1_to_4": 0.0,
        "accuracy_guesses_5_up": 0.0,
    }
    assert accuracy_by_guesses(rows[2:4]) == {}  # all of one stratum
