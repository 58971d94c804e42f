"""A study: what it trains, and carrying it out: train, evaluate, compare, keep study.json."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..atomic_write import replace_text
from ..errors import RefusedInputError, RunFailedError
from ..evaluation.predictions import find_stored, read_rows, results
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import RunLock
from ..tracking.sinks import read_records
from ..training.guards import SignalGuard, StopRequested
from ..training.task import Row, Task
from .comparison import Comparison, compare, comparison_table
from .jobs import Job, Start, run_jobs

Kind = Literal["seeds", "ablate"]
BASELINE = "baseline"
SCHEMA = 1
FILE = "study.json"
Failures = dict[Path, str]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a study: a variation with a seed, and what its run left on the disk."""

    variation: str
    seed: int
    run_dir: Path
    train: tuple[str, ...]
    """The words of its `train` command; they begin the run, or go on with it."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What run.json says of a run of the study; nothing where it has not begun."""
        there = (self.run_dir / "run.json").exists()
        return RunManifest.load(self.run_dir).data if there else {}

    def result(self, split: str) -> dict[str, Any] | None:
        """The stored result of a study's run on `split`, of its best weights, if there is one.

        A run that went on after it was scored has no result until it is scored again.
        """
        best = self.manifest.get("best") or {}
        wanted = {"split": split, "checkpoint": "best", "step": best.get("step")}
        for result in results(self.run_dir):
            if not result.get("steps") and all(result[k] == v for k, v in wanted.items()):
                return result
        return None

    def rows(self, split: str) -> list[Row] | None:
        """The predictions on `split` of a study's run; None if there are none undamaged."""
        result = self.result(split)
        path = None if result is None else find_stored([self.run_dir], result)
        return None if path is None else read_rows(path)

    def facts(self, split: str, failure: str | None, metric: str) -> dict[str, Any]:
        """What study.json says of a run: its command, what it took, every score, its curve."""
        facts: dict[str, Any] = {
            "run": self.run_dir.name,
            "variation": self.variation,
            "seed": self.seed,
            "command": list(self.train),
            "failure": failure,
        }
        result, manifest = self.result(split), self.manifest
        if result is None:
            return facts
        records = _with_all_seconds(read_records(self.run_dir / "metrics.jsonl"))
        names = ("step", "wall_s", f"raw/{metric}", f"ema/{metric}")
        return {
            **facts,
            **{name: manifest[name] for name in ("step", "parameters", "device", "threads")},
            "wall_s": records[-1]["wall_s"],
            **{name: result[name] for name in ("weights_sha256", "examples", "scores")},
            "curve": [
                {name: record[name] for name in names if name in record}
                for record in records
                if record["kind"] == "evaluation"
            ],
        }


def _with_all_seconds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The records of a study's run with `wall_s` over all calls of `train`: each counts from 0."""
    before = last = 0.0
    told = []
    for record in records:
        if record["wall_s"] < last:
            before += last
        last = record["wall_s"]
        told.append({**record, "wall_s": before + last})
    return told


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a study: everything that decides what it trains."""

    kind: Kind
    preset: str
    changes: Mapping[str, Any]
    """{dotted field: value} of every run, over the preset."""
    variations: Mapping[str, Mapping[str, Any]]
    """{name: {dotted field: value}}; the baseline, which changes nothing, first."""
    seeds: tuple[int, ...]

    def trials(self, folder: Path) -> list[Trial]:
        """Every training of the study, one seed after another, so that pairs end together."""
        return [self._trial(name, seed, folder) for seed in self.seeds for name in self.variations]

    def _trial(self, variation: str, seed: int, folder: Path) -> Trial:
        run_dir = folder / f"{variation}-seed{seed}"
        words = ["train", "--preset", self.preset, "--run-dir", str(run_dir), "--resume"]
        for name, value in {**self.changes, **self.variations[variation], "seed": seed}.items():
            values = value if isinstance(value, list | tuple) else [value]
            words += [f"--{name}", *map(str, values)]
        return Trial(variation=variation, seed=seed, run_dir=run_dir, train=tuple(words))

    def as_json(self) -> dict[str, Any]:
        """The study's plan as JSON values, which `check_same` reads."""
        return dict(json.loads(json.dumps(vars(self))))

    def check_same(self, before: Mapping[str, Any], folder: Path) -> None:
        """Raise RefusedInputError where the study in `folder` is about something else.

        More variations and more seeds are welcome: what was trained is kept.
        """
        now = self.as_json()
        pairs = {name: (before[name], now[name]) for name in ("kind", "preset", "changes")}
        for name, changes in now["variations"].items():
            pairs[f"variation {name}"] = (before["variations"].get(name, changes), changes)
        for name, (was, asked) in pairs.items():
            if was != asked:
                raise RefusedInputError(
                    f"{folder} holds a study with another {name}: it was {was!r}, now {asked!r}; "
                    "name another --study-dir"
                )


@dataclass(frozen=True, kw_only=True)
class Study:
    """The study that a person asked for: its plan, and how and where it is carried out."""

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
        """The split that the study's runs are compared on."""
        return "test" if self.test else "validation"


def carry_out(study: Study) -> int:
    """Carry out a study: train what is missing, compare, print the table; the exit code.

    Raises RefusedInputError before anything is trained where the folder holds another study, and
    RunFailedError where a run failed; the table of the others comes first.
    """
    before = _read(study.folder / FILE)
    told = study.plan.as_json()
    if before is not None:
        study.plan.check_same(before["plan"], study.folder)
        told["variations"] = {**before["plan"]["variations"], **told["variations"]}
    with SignalGuard() as signals, RunLock(study.folder):
        facts = {"schema": SCHEMA, "plan": told, "argv": list(study.argv)}
        if before is None or before["plan"] != told:  # a table of the same runs stays good
            replace_text(study.folder / FILE, json.dumps(facts, indent=2) + "\n")
        trials = study.plan.trials(study.folder)
        try:
            failures = _train(study, trials, signals)
            if study.test:
                failures |= _open_test(study, trials, failures, signals)
        except StopRequested as stop:
            _say(f"{stop}: every run is saved; the same command goes on")
            return signals.exit_code
        comparison = _compared(study, trials, failures)
        facts |= {"split": study.split, "environment": environment()}
        facts["comparison"] = asdict(comparison)
        facts["runs"] = [
            trial.facts(study.split, failures.get(trial.run_dir), comparison.metric)
            for trial in trials
        ]
        replace_text(study.folder / FILE, json.dumps(facts, indent=2) + "\n")
    print(_table(study.plan, comparison, study.split))
    if failures:
        raise RunFailedError(_told(failures, len(trials)))
    return 0


def _train(study: Study, trials: Sequence[Trial], signals: SignalGuard) -> Failures:
    """Train every run of a study and score it on validation, in processes side by side."""
    jobs = []
    for trial in trials:
        scored = trial.manifest.get("status") == "finished" and trial.result("validation")
        evaluate = () if scored else (("evaluate", str(trial.run_dir)),)
        # a finished run, too: train refuses one that is not what the study wants
        jobs.append(Job(run_dir=trial.run_dir, commands=(trial.train, *evaluate)))
    _say(f"{len(jobs)} runs, {study.processes} at a time, below {study.folder}")
    return run_jobs(jobs, start=study.start, processes=study.processes, signals=signals, say=_say)


def _open_test(
    study: Study, trials: Sequence[Trial], failed: Failures, signals: SignalGuard
) -> Failures:
    """Score a study's runs on the test split one by one: the lock lets the first one in.

    Raises RefusedInputError where the split was opened before and nobody says why again.
    """
    todo = [trial for trial in trials if trial.run_dir not in failed]
    failures: Failures = {}
    reason = study.again
    for trial in todo:
        words = ["evaluate", str(trial.run_dir), "--split", "test"]
        words += [] if reason is None else ["--again", reason]
        job = Job(run_dir=trial.run_dir, commands=(tuple(words),))
        failures |= run_jobs([job], start=study.start, processes=1, signals=signals, say=_say)
        if trial is todo[0] and failures:
            raise RefusedInputError(f"--test: {failures[trial.run_dir]}")
        reason = f"with the other runs of the study {study.folder.name}"
    return failures


def _compared(study: Study, trials: Sequence[Trial], failures: Failures) -> Comparison:
    outcomes: dict[str, dict[int, Any]] = {name: {} for name in study.plan.variations}
    for trial in trials:
        rows = None if trial.run_dir in failures else trial.rows(study.split)
        if rows is not None:
            outcomes[trial.variation][trial.seed] = rows
    try:
        return compare(study.task, outcomes)
    except ValueError as error:
        raise RunFailedError(f"{error}: {_told(failures, len(trials))}") from error


def _table(plan: Plan, comparison: Comparison, split: str) -> str:
    title = (
        f"{plan.kind} {plan.preset}: {comparison.metric} on {split}, {comparison.examples} "
        "examples, best weights"
    )
    paired = len(plan.variations) > 1
    return comparison_table(comparison, title=title, seeds=plan.seeds, paired=paired)


def _told(failures: Failures, runs: int) -> str:
    some = "; ".join(f"{run_dir.name}: {why}" for run_dir, why in failures.items())
    return f"{len(failures)} of {runs} runs failed: {some}"


def _read(path: Path) -> dict[str, Any] | None:
    """Read the study.json of an earlier call. Raises RefusedInputError where it cannot be read."""
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


def _say(line: str) -> None:
    print(line, file=sys.stderr)
