"""The table of runs, for people and for programs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reference_reasoner.engine.commands.runs import runs_table, summary


def _run(name: str = "0001", **facts: Any) -> dict[str, Any]:
    made = {
        "name": name,
        "path": f"runs/{name}",
        "status": "finished",
        "task": "toy",
        "preset": "smoke",
        "step": 20,
        "steps": 20,
        "best": {"metric": "accuracy", "value": 0.98765, "step": 15},
        "created_at": _ago(90),
    }
    return made | facts


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_the_summary_of_a_run() -> None:
    found = summary(_run())
    age = found.pop("age_s")
    assert 90 <= age < 3600
    assert found == {
        "name": "0001",
        "path": "runs/0001",
        "status": "finished",
        "task": "toy",
        "preset": "smoke",
        "step": 20,
        "steps": 20,
        "metric": "accuracy",
        "score": 0.98765,
    }


def test_the_summary_of_a_run_that_cannot_be_read() -> None:
    found = summary({"name": "x", "path": "runs/x", "status": "unreadable", "created_at": ""})
    assert found["status"] == "unreadable"
    assert all(found[name] is None for name in ("task", "step", "score", "age_s"))


def test_the_table_has_a_line_a_run_and_aligned_columns() -> None:
    unread = {"name": "x", "path": "runs/x", "status": "unreadable", "created_at": ""}
    runs = [_run("a"), _run("a-long-name", best=None, preset=None), unread]
    head, *lines = runs_table(runs).splitlines()
    assert head.split() == ["name", "status", "task", "preset", "step", "score", "age"]
    assert lines[0].split()[:6] == ["a", "finished", "toy", "smoke", "20/20", "accuracy"]
    assert lines[0].split()[6] == "0.9877"
    assert lines[1].split()[:6] == ["a-long-name", "finished", "toy", "-", "20/20", "-"]
    assert lines[2].split() == ["x", "unreadable", "-", "-", "-", "-", "-"]
    assert {line.index(word) for line, word in zip(lines[:2], ["finished"] * 2, strict=True)} == {
        head.index("status")
    }


def test_no_run_is_a_hint() -> None:
    assert runs_table([]) == "no runs yet: `train` makes the first"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3, "3 s"), (200, "3 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_shown_in_its_largest_unit(seconds: int, shown: str) -> None:
    line = runs_table([_run(created_at=_ago(seconds + 0.2))]).splitlines()[1]
    assert line.endswith(shown)
