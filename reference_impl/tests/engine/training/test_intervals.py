"""Workers and intervals change nothing but how often something is written."""

from pathlib import Path
from typing import Any

import pytest

from ..toy.runs import facts, records, run_toy

CHANGES: dict[str, dict[str, Any]] = {
    "2 workers": {"runtime.loader_workers": 2},
    "evaluation every 10 steps": {"evaluation.every_steps": 10},
    "evaluation every 1000 steps": {"evaluation.every_steps": 1000},
    "evaluation in batches of 7": {"evaluation.batch_size": 7},
    "log every 3 steps": {"tracking.log_every_steps": 3},
    "checkpoint every 1000 steps": {"checkpoint.every_steps": 1000},
    "checkpoint every step": {"checkpoint.every_steps": 1, "checkpoint.keep": 5},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_hashes_and_common_records_stay(project: Path, name: str) -> None:
    base = {"training.ema_decay": 0.9, "model.dropout": 0.3}
    run_toy(project / "a", base)
    run_toy(project / "b", {**base, **CHANGES[name]})
    for field in ("weights_sha256", "state_sha256"):
        assert facts(project / "a")[field] == facts(project / "b")[field]
    ours, theirs = (
        {(r["kind"], r["step"]): r for r in records(project / run)} for run in ("a", "b")
    )
    common = ours.keys() & theirs.keys()
    assert {("train", 20), ("evaluation", 20)} <= common
    assert {k: ours[k] for k in common} == {k: theirs[k] for k in common}


def test_another_seed_changes_the_hash(project: Path) -> None:
    run_toy(project / "a")
    run_toy(project / "b", {"seed": 1})
    assert facts(project / "a")["weights_sha256"] != facts(project / "b")["weights_sha256"]
