"""The test split is opened once for each data; again only with a reason."""

import json
from pathlib import Path

import pytest

from reference_reasoner.engine.data.test_lock import (
    ledger_path,
    read_ledger,
    record_opening,
    request_opening,
)
from reference_reasoner.engine.errors import RefusedInputError


@pytest.fixture
def ledger(project: Path) -> Path:
    return ledger_path()


def _ask(ledger: Path, weights: str, again: str | None = None, data: str = "data") -> str:
    return request_opening(ledger, fingerprint=data, weights_sha256=weights, again=again)


def _open(ledger: Path, weights: str, reason: str | None = None, data: str = "data") -> None:
    opening = {"data_fingerprint": data, "run": "runs/0001", "weights_sha256": weights}
    record_opening(ledger, {**opening, "task": "toy", "reason": reason})


def test_the_ledger_stands_at_the_project_root(ledger: Path, project: Path) -> None:
    assert ledger == project / "test_ledger.jsonl"
    assert not ledger.exists()
    assert read_ledger(ledger) == []


def test_asking_writes_nothing(ledger: Path) -> None:
    assert _ask(ledger, "w") == "open"
    assert not ledger.exists()


def test_the_same_weights_replay(ledger: Path) -> None:
    _open(ledger, "w")
    assert _ask(ledger, "w") == "replay"
    assert _ask(ledger, "w", "because") == "replay"


@pytest.mark.parametrize("again", [None, "", "  \n"])
def test_other_weights_are_refused_without_a_reason(ledger: Path, again: str | None) -> None:
    _open(ledger, "w")
    with pytest.raises(RefusedInputError, match=r"for run runs/0001.*--again") as caught:
        _ask(ledger, "other", again)
    assert read_ledger(ledger)[0]["time"] in str(caught.value)


def test_other_weights_are_allowed_with_a_reason_and_stay_known(ledger: Path) -> None:
    _open(ledger, "w")
    assert _ask(ledger, "other", "the paper's table 2") == "open"
    _open(ledger, "other", "the paper's table 2")
    assert _ask(ledger, "w") == _ask(ledger, "other") == "replay"
    with pytest.raises(RefusedInputError):
        _ask(ledger, "third")


def test_other_data_has_a_test_split_of_its_own(ledger: Path) -> None:
    _open(ledger, "w")
    assert _ask(ledger, "w", data="new data") == "open"
    assert _ask(ledger, "other", data="new data") == "open"


def test_each_opening_is_one_line_in_the_order_of_time(ledger: Path) -> None:
    _open(ledger, "w")
    _open(ledger, "v", "a reason with\na newline")
    lines = ledger.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    openings = read_ledger(ledger)
    assert [json.loads(line) for line in lines] == openings
    assert [o["reason"] for o in openings] == [None, "a reason with\na newline"]
    assert openings[0]["time"] <= openings[1]["time"]


@pytest.mark.parametrize(
    "line",
    ["", "{", "[]", "3", '"text"', "{}", '{"data_fingerprint": "data"}', "\xff"],
)
def test_a_damaged_ledger_is_refused_by_line(ledger: Path, line: str) -> None:
    _open(ledger, "w")
    with ledger.open("a", encoding="latin-1") as file:
        file.write(line + "\n")
    before = ledger.read_bytes()
    with pytest.raises(RefusedInputError, match=r"test_ledger\.jsonl, line 2"):
        _ask(ledger, "w")
    assert ledger.read_bytes() == before
