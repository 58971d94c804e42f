"""The judges of `nox -s evidence` judge; what they measure is run by that session."""

import pytest

from benchmarks import evidence
from benchmarks.solve_evidence import keeps_the_rules
from benchmarks.training_evidence import interval

from .refusals import refusal

SOLVED = "1234341221434321"


def test_a_solution_is_judged_by_an_own_look() -> None:
    assert keeps_the_rules(".2.." + "." * 12, SOLVED)
    assert not keeps_the_rules(".3.." + "." * 12, SOLVED)  # not the given digit
    assert not keeps_the_rules("." * 16, SOLVED[:-1] + "2")
    assert not keeps_the_rules("." * 16, "1234" * 4)
    assert not keeps_the_rules("." * 16, "1234234134124123")  # boxes
    six = "123456456123231564564231312645645312"
    assert keeps_the_rules("." * 36, six)
    assert not keeps_the_rules("." * 36, six[:6] + six[12:18] + six[6:12] + six[18:])


def test_a_score_is_told_with_its_interval() -> None:
    assert interval({"value": 0.98, "low": 0.97, "high": 0.99}, 2) == "0.98 (0.97 to 0.99)"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--puzzles", "nowhere.txt"], "--puzzles nowhere.txt: there is no such file"),
    ],
)
def test_held_wrong(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence in refusal(evidence.main, words, capsys)


def test_a_part_prints_what_is_required_and_what_came_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evidence.main(["--only", "rendering"]) == 0
    assert capsys.readouterr().out.split() == [
        "two", "renders", "of", "the", "reference", "equal", "equal", "holds",
    ]  # fmt: skip
