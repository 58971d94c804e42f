"""SIGKILL at every place where something could be lost; what comes of it must not differ.

A kill counts only where the failpoint logged it: then the process was at work there.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ..toy.runs import VARIANTS, outcome, records, run_toy, start_toy

LONG = {"training.steps": 60}
EPOCH_STEPS = 5  # 60 examples in batches of 12
KILLS = {
    "step": (7, 2, 5, 3, 6),
    "evaluation": (3, 2, 2, 3, 2),
    "checkpoint.before_fsync": (12, 4, 9, 3, 7),
    "checkpoint.before_rename": (3, 2, 3, 1, 2),
    "checkpoint.after_rename": (3, 2, 3, 1, 2),
}
"""{failpoint: at which time of each process the kill comes}"""


def kill(run_dir: Path, overrides: dict[str, Any], site: str, count: int) -> None:
    """Train, or go on, until the `count`-th time at `site`."""
    log = run_dir.with_suffix(".log")
    before = log.read_text().count("\n") if log.exists() else 0
    failpoint = f"{site}:{count}:SIGKILL"
    done = start_toy(run_dir, overrides, True, FAILPOINT=failpoint, FAILPOINT_LOG=str(log))
    assert done.returncode == -9, done.stderr
    lines = log.read_text().splitlines()
    assert len(lines) == before + 1
    assert lines[-1].startswith(f"{site} {count} SIGKILL")


def finish_and_compare(project: Path, overrides: dict[str, Any]) -> None:
    run_toy(project / "whole", overrides)
    run_toy(project / "killed", overrides, resume=True)
    assert outcome(project / "killed") == outcome(project / "whole")


def test_one_kill_at_each_place_changes_nothing(project: Path) -> None:
    overrides = {**LONG, "training.ema_decay": 0.9}
    for count, site in zip((7, 3, 12, 2, 3), KILLS, strict=True):
        kill(project / "killed", overrides, site, count)
    finish_and_compare(project, overrides)


def test_sigterm_to_a_process_saves_and_leaves_with_143(project: Path) -> None:
    done = start_toy(project / "killed", LONG, False, FAILPOINT="evaluation:3:SIGTERM")
    assert done.returncode == 143, done.stderr
    assert "SIGTERM: saved at step 10; go on with --resume" in done.stderr
    finish_and_compare(project, dict(LONG))


@pytest.mark.crash
@pytest.mark.parametrize("site", KILLS)
def test_five_kills_at_one_place_change_nothing(project: Path, site: str) -> None:
    reached = []
    for count in KILLS[site]:
        kill(project / "killed", LONG, site, count)
        reached.append(max((r["step"] for r in records(project / "killed")), default=0))
    assert len(reached) == 5
    if site == "step":  # a step that follows `reached` was killed: twice and more in one epoch
        epochs = [steps // EPOCH_STEPS for steps in reached]
        assert epochs.count(1) >= 2
    finish_and_compare(project, dict(LONG))


@pytest.mark.crash
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # what torch.compile uses itself
@pytest.mark.parametrize("variant", [*VARIANTS, "compile"])
def test_kills_change_nothing_in_any_variant(project: Path, variant: str) -> None:
    if variant == "compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile on a CPU needs g++")
    overrides = {**LONG, **VARIANTS.get(variant, {"runtime.compile": True})}
    for site, count in (("step", 7), ("step", 2), ("checkpoint.before_rename", 3)):
        kill(project / "killed", overrides, site, count)
    finish_and_compare(project, overrides)
