"""Checks of a run on the disk, its claims, and what the project says of itself."""

import torch

from ..data.test_lock import ledger_path, read_ledger
from ..evaluation.bootstrap import bootstrap_intervals
from ..evaluation.predictions import find_stored, predict, read_rows, results
from ..profiling.budgets import check_exact, read_budgets
from ..profiling.counted.quantities import exact_quantities
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.sinks import read_records
from ..training import checkpoint, parallel
from .doctor import Check, Examination, FailedError, SkippedError, make_checks, require
from .reproduce import differing_conditions


def checks_of_run(exam: Examination) -> list[Check]:
    """The doctor's checks of a run on the disk: its files, claims and scores, and the budgets."""
    table = {
        "environment": (_environment, "tests/engine/tracking/test_manifest.py"),
        "run integrity": (_integrity, "tests/engine/training/test_checkpoint.py"),
        "claims": (_claims, "`reproduce RUN`"),
        "scores": (_scores, "tests/engine/evaluation/test_bootstrap.py"),
        "test split": (_ledger, "tests/engine/evaluation/test_scoring.py"),
        "budgets": (_budgets, "`profile --check`"),
    }
    return make_checks(exam, table)


def _run(exam: Examination) -> RunManifest:
    if exam.run is None:
        raise SkippedError("no run yet: train one")
    return exam.run


def _environment(exam: Examination) -> str:
    short = RunManifest.load(exam.reference)
    known = ("python", "torch", "cpu_capability", "packages")
    missing = [name for name in known if not short.data["environment"].get(name)]
    require(not missing, f"run.json does not say {', '.join(missing)}")
    task = exam.task_of_run()
    if task is None or exam.run is None:
        return f"run.json says {', '.join(known)}"
    name = exam.run.run_dir.name
    changed = differing_conditions(exam.run.data, task.config, environment(), parallel.current())
    if changed:
        return f"recorded; {name} is not comparable here: {'; '.join(changed)}"
    return f"recorded; that of {name} is the present one"


def _integrity(exam: Examination) -> str:
    run = _run(exam)
    parents = [run.run_dir / name for name in ("checkpoints", "best")]
    folders = [folder for parent in parents for folder in checkpoint.folders(parent)]
    require(bool(folders), f"{run.run_dir} holds no checkpoint")
    for folder in folders:
        try:
            checkpoint.load(folder)
        except checkpoint.DamagedError as error:
            raise FailedError(f"{folder.parent.name}/{error}") from error
    return f"{len(folders)} folders of {run.run_dir.name} are as they were written"


def _claims(exam: Examination) -> str:
    run = _run(exam)
    best = run.data["best"]
    if best is None:
        raise SkippedError(f"{run.run_dir.name} was never evaluated")
    found = [
        record["selected"]
        for record in read_records(run.run_dir / "metrics.jsonl")
        if record["kind"] == "evaluation" and record["step"] == best["step"]
    ]
    require(
        found == [best["value"]],
        f"run.json claims {best['metric']} {best['value']} at step {best['step']}, and "
        f"metrics.jsonl has {found}",
    )
    return f"{best['metric']} {best['value']:.4g} of run.json stands in metrics.jsonl"


def _scores(exam: Examination) -> str:
    rows = predict(
        exam.task,
        exam.task.build_model(),
        exam.splits.validation,
        batch_size=exam.config.evaluation.batch_size,
        device=torch.device("cpu"),
    )
    one, two = (bootstrap_intervals(exam.task, rows, resamples=20) for _ in range(2))
    require(repr(one) == repr(two), "the same rows have two intervals")
    task, run = exam.task_of_run(), exam.run
    if task is None or run is None:
        return "the same rows, the same interval; 0 stored results scored again"
    stored = results(run.run_dir)
    for result in stored:
        path = find_stored([run.run_dir], result)
        if path is None:
            raise FailedError(f"the predictions of {result['split']} are damaged or gone")
        for name, value in task.scores(read_rows(path)).items():
            said = result["scores"][name]["value"]
            require(value == said, f"{path.name}: {name} is {value} and is said to be {said}")
    return f"the same rows, the same interval; {len(stored)} stored results scored again"


def _ledger(exam: Examination) -> str:
    count = len(read_ledger(ledger_path()))
    return f"{count} openings of the test split, each in {ledger_path().name}"


def _budgets(exam: Examination) -> str:
    budgets = read_budgets(exam.budgets)
    presets = {name: make for name, make in exam.task_type.presets.items() if name in budgets}
    if not presets:
        raise SkippedError(f"no budget for {', '.join(exam.task_type.presets)}")
    over = [
        verdict.text
        for name, make in presets.items()
        for verdict in check_exact(name, budgets, exact_quantities(exam.task_type(make())))
        if verdict.state == "over"
    ]
    require(not over, "; ".join(over))
    return f"exact quantities of {', '.join(presets)} are within budgets.toml"
