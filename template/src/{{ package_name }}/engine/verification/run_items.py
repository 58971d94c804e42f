"""Items about a run on the disk, its claims, and what the project says of itself."""

from typing import Any

import torch

from ..data.test_lock import ledger_path, read_ledger
from ..evaluation.intervals import bootstrap_intervals
from ..evaluation.predictions import predict, read_rows
from ..evaluation.stored_predictions import find_stored, results
from ..profiling.budgets import check_exact, read_budgets
from ..profiling.counted.quantities import exact_quantities
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..training import checkpoint, parallel
from .conditions import differing_conditions
from .examination import Examination, records
from .items import FailedError, Item, SkippedError, require


def run_items(exam: Examination) -> list[Item]:
    """The items about the run and the project."""
    return [
        Item(
            name="environment",
            proof="tests/tracking/test_manifest.py",
            check=lambda: _environment(exam),
        ),
        Item(
            name="run integrity",
            proof="tests/training/test_checkpoint.py",
            check=lambda: _integrity(_run(exam)),
        ),
        Item(name="claims", proof="`reproduce RUN`", check=lambda: _claims(_run(exam))),
        Item(
            name="scores",
            proof="tests/evaluation/test_intervals.py",
            check=lambda: _scores(exam),
        ),
        Item(name="test split", proof="tests/evaluation/test_evaluate.py", check=_ledger),
        Item(name="budgets", proof="`profile --check`", check=lambda: _budgets(exam)),
    ]


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


def _integrity(run: RunManifest) -> str:
    parents = [run.run_dir / name for name in ("checkpoints", "best")]
    folders = [folder for parent in parents for folder in checkpoint.folders(parent)]
    require(bool(folders), f"{run.run_dir} holds no checkpoint")
    for folder in folders:
        try:
            checkpoint.load(folder)
        except checkpoint.DamagedError as error:
            raise FailedError(f"{folder.parent.name}/{error}") from error
    return f"{len(folders)} folders of {run.run_dir.name} are as they were written"


def _claims(run: RunManifest) -> str:
    best = run.data["best"]
    if best is None:
        raise SkippedError(f"{run.run_dir.name} was never evaluated")
    found = [
        record["selected"]
        for record in records(run.run_dir)
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
    task = exam.task_of_run()
    stored = [] if task is None or exam.run is None else results(exam.run.run_dir)
    for result in stored:
        _score_again(exam, result)
    return f"the same rows, the same interval; {len(stored)} stored results scored again"


def _score_again(exam: Examination, result: dict[str, Any]) -> None:
    task, run = exam.task_of_run(), _run(exam)
    path = find_stored([run.run_dir], result)
    if task is None or path is None:
        raise FailedError(f"the predictions of {result['split']} are damaged or gone")
    for name, value in task.scores(read_rows(path)).items():
        said = result["scores"][name]["value"]
        require(value == said, f"{path.name}: {name} is {value} and is said to be {said}")


def _ledger() -> str:
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
