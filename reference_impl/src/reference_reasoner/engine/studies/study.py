"""Carrying out a study: train, evaluate, compare, and keep it all in study.json."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..atomic_write import replace_text
from ..errors import RefusedInputError, RunFailedError
from ..tracking.environment import environment
from ..tracking.run_directory import RunLock
from ..training.guards import SignalGuard, StopRequested
from ..training.task import Task
from .comparison import Comparison, compare
from .jobs import Job, Start, run_jobs
from .outcomes import is_finished, result_of, rows_of, run_facts
from .plan import Plan, Trial
from .table import table

SCHEMA = 1
FILE = "study.json"
Failures = dict[Path, str]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a person asked `study` to do."""

    plan: Plan
    task: Task[Any]
    """With the baseline's config."""
    folder: Path
    processes: int
    start: Start
    """What starts a command of the project."""
    argv: tuple[str, ...]
    test: bool = False
    """Compare on the test split, which is opened once for all runs."""
    again: str | None = None
    """Why the test split is opened although it was opened before."""

    @property
    def split(self) -> str:
        """What the runs are compared on."""
        return "test" if self.test else "validation"


def carry_out(study: Study) -> int:
    """Train what is missing, compare, print the table; the exit code.

    Raises RefusedInputError before anything is trained where the folder holds another study, and
    RunFailedError where a run failed; the table of the others comes first.
    """
    before = _read(study.folder / FILE)
    plan = study.plan.as_json()
    if before is not None:
        study.plan.check_same(before["plan"], study.folder)
        plan["variations"] = {**before["plan"]["variations"], **plan["variations"]}
    with SignalGuard() as signals, RunLock(study.folder):
        facts = {"schema": SCHEMA, "plan": plan, "argv": list(study.argv)}
        if before is None or before["plan"] != plan:  # a table of the same runs stays good
            _write(study.folder, facts)
        trials = study.plan.trials(study.folder)
        try:
            failures = _train(study, trials, signals)
            if study.test:
                failures |= _open_test(study, trials, failures, signals)
        except StopRequested as stop:
            _say(f"{stop}: every run is saved; the same command goes on")
            return signals.exit_code
        comparison = _compared(study, trials, failures)
        _write(study.folder, facts | _results(study, trials, failures, comparison))
    print(table(study.plan, comparison, study.split))
    if failures:
        raise RunFailedError(_told(failures, len(trials)))
    return 0


def _train(study: Study, trials: Sequence[Trial], signals: SignalGuard) -> Failures:
    """Train and score every run on validation, in processes side by side."""
    jobs = []
    for trial in trials:
        scored = is_finished(trial) and result_of(trial, "validation") is not None
        evaluate = () if scored else (("evaluate", str(trial.run_dir)),)
        # a finished run, too: train refuses one that is not what the study wants
        jobs.append(Job(run_dir=trial.run_dir, commands=(trial.train, *evaluate)))
    _say(f"{len(jobs)} runs, {study.processes} at a time, below {study.folder}")
    return run_jobs(jobs, start=study.start, processes=study.processes, signals=signals, say=_say)


def _open_test(
    study: Study, trials: Sequence[Trial], failed: Failures, signals: SignalGuard
) -> Failures:
    """Score the runs on the test split, one after another: the lock lets the first one in.

    Raises RefusedInputError where the split was opened before and nobody says why again.
    """
    reasons = [
        study.again,
        *[f"with the other runs of the study {study.folder.name}"] * len(trials),
    ]
    todo = [trial for trial in trials if trial.run_dir not in failed]
    failures: Failures = {}
    for trial, reason in zip(todo, reasons, strict=False):
        words = ["evaluate", str(trial.run_dir), "--split", "test"]
        words += [] if reason is None else ["--again", reason]
        job = Job(run_dir=trial.run_dir, commands=(tuple(words),))
        failures |= run_jobs([job], start=study.start, processes=1, signals=signals, say=_say)
        if trial is todo[0] and failures:
            raise RefusedInputError(f"--test: {failures[trial.run_dir]}")
    return failures


def _compared(study: Study, trials: Sequence[Trial], failures: Failures) -> Comparison:
    outcomes: dict[str, dict[int, Any]] = {each.name: {} for each in study.plan.variations}
    for trial in trials:
        rows = None if trial.run_dir in failures else rows_of(trial, study.split)
        if rows is not None:
            outcomes[trial.variation][trial.seed] = rows
    try:
        return compare(study.task, outcomes)
    except ValueError as error:
        raise RunFailedError(f"{error}: {_told(failures, len(trials))}") from error


def _results(
    study: Study, trials: Sequence[Trial], failures: Failures, comparison: Comparison
) -> dict[str, Any]:
    return {
        "split": study.split,
        "environment": environment(),
        "comparison": asdict(comparison),
        "runs": [
            run_facts(trial, study.split, failures.get(trial.run_dir), comparison.metric)
            for trial in trials
        ],
    }


def _told(failures: Failures, runs: int) -> str:
    some = "; ".join(f"{run_dir.name}: {why}" for run_dir, why in failures.items())
    return f"{len(failures)} of {runs} runs failed: {some}"


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier call wrote. Raises RefusedInputError where it cannot be read."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedInputError(
            f"{path} cannot be read: {error}; remove it to begin the study's table again"
        ) from error
    return dict(found)


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    replace_text(folder / FILE, json.dumps(facts, indent=2) + "\n")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
