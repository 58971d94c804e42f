"""The smallest row of the results is what its command gives, and its script shows it."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import learning
from results import stored
from results.learning_tables import SEEDS, exists

from .refusals import refusal
from .rendering import ROOT


def committed(part: str) -> dict[str, Any]:
    return stored.load(f"learning/{part}.json")


def test_the_smallest_row_can_be_run_again(tmp_path: Path) -> None:
    assert learning.main(["--only", "smoke", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "smoke.json").read_text(encoding="utf-8")
    now, then = json.loads(text), committed("smoke")
    assert now["plan"] == then["plan"]
    assert [run["command"] for run in now["runs"]] == [run["command"] for run in then["runs"]]
    assert str(Path.home()) not in text
    assert "/project" not in text  # no path of this machine
    scores = [each["comparison"]["lines"][0]["by_seed"] for each in (now, then)]
    for seed, score in scores[1].items():  # another machine's last bits may be others
        assert scores[0][seed] == pytest.approx(score, abs=0.06)


@pytest.mark.parametrize("part", [part for part in learning.STUDIES if exists(part)])
def test_each_row_is_what_its_command_says(part: str) -> None:
    study = committed(part)
    assert tuple(study["argv"]) == learning.STUDIES[part]
    assert len(study["commit"]) == 40
    by_run = {run["run"]: run for run in study["runs"]}
    for line in study["comparison"]["lines"]:
        for seed, score in line["by_seed"].items():
            run = by_run[f"{line['name']}-seed{seed}"]
            assert run["failure"] is None
            assert run["scores"][study["comparison"]["metric"]]["value"] == score
            assert all(point["wall_s"] > 0 for point in run["curve"])


def test_the_table_has_every_seed() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for part in SEEDS:
        line = committed(part)["comparison"]["lines"][0]
        shown = ", ".join(stored.percent(score, 1) for score in line["by_seed"].values())
        assert shown in page
        assert stored.command_of(committed(part)) in page


def test_what_was_expected_was_said_of_every_variation() -> None:
    said = committed("predictions")
    for part in filter(exists, ("ablations", "tuning", "recall")):
        names = {line["name"] for line in committed(part)["comparison"]["lines"]} - {"baseline"}
        assert names <= set(said[part])


def test_the_puzzle_that_is_shown_is_solved_where_it_stops() -> None:
    shown = committed("halting")["step_by_step"]
    given = [(cell, digit) for cell, digit in enumerate(shown["puzzle"]) if digit]
    assert all(shown["solution"][cell] == digit for cell, digit in given)
    assert 1 < shown["steps"] <= len(shown["answers"]) == len(shown["confidences"])
    assert shown["answers"][shown["steps"] - 1] == shown["solution"] != shown["answers"][0]


def test_held_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--out", str(tmp_path / "nowhere")], "there is no such folder"),
    ):
        assert sentence in refusal(learning.main, words, capsys)
