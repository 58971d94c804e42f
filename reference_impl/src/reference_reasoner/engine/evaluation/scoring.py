"""Scoring a trained run: predict once, store, score what is stored, with intervals."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset
from ..data.test_lock import ledger_path, read_ledger, record_opening, request_opening
from ..errors import RefusedInputError, RunFailedError
from ..project import project_root
from ..seeding import set_determinism, set_threads
from ..tracking.manifest import RunManifest
from ..training.checkpoint import load_weights, weights_sha256
from ..training.device import choose_device
from ..training.task import Row, Task
from .bootstrap import bootstrap_intervals
from .predictions import (
    find_stored,
    finite_scores,
    predict,
    read_rows,
    split_name,
    store,
    validation_scores,
)

SplitName = Literal["validation", "test"]
Checkpoint = Literal["best", "last", "raw", "ema"]


def evaluate_run(
    task: Task[Any],
    run_dir: Path,
    manifest: RunManifest,
    *,
    split: SplitName,
    which: Checkpoint,
    again: str | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Score a run's weights on the validation or test split, with intervals; JSON values.

    With `steps` the model takes so many of its own steps, whatever training had. The
    predictions, with the result beside them, are below `<run>/predictions/`. The test split goes
    through the test lock. Raises RefusedInputError for another data set than the run's or a test
    split that was opened before, and RunFailedError for damaged weights.
    """
    splits = task.datasets()
    if splits.fingerprint != manifest.data["data_fingerprint"]:
        raise RefusedInputError(
            f"{run_dir} was trained on the data {manifest.data['data_fingerprint'][:12]}, now it "
            f"is {splits.fingerprint[:12]}: restore that data, or train again"
        )
    weights = _weights(task, run_dir, manifest, which, steps)
    facts = {"split": split, **weights.facts, "data_fingerprint": splits.fingerprint}
    dataset = splits.test if split == "test" else splits.validation
    stored = _unlock(run_dir, facts, again) if split == "test" else None
    return weights.score(facts, dataset, stored)


def evaluate_file(
    task: Task[Any],
    run_dir: Path,
    manifest: RunManifest,
    *,
    file: Path,
    which: Checkpoint,
    steps: int | None = None,
) -> tuple[dict[str, Any], Sequence[str]]:
    """Score a run's weights on a file of examples, outside the test lock, with intervals.

    As `evaluate_run`; the result has the file's name and sha256. Returns also a line about each
    part of the file that was left out. Raises RefusedInputError for a file without examples, and
    where the task reads none.
    """
    weights = _weights(task, run_dir, manifest, which, steps)
    examples = weights.task.examples_of(file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    facts = {
        "split": "file",
        **weights.facts,
        "data_fingerprint": sha256,
        "file": file.name,
        "file_sha256": sha256,
        "left_out": len(examples.left_out),
    }
    return weights.score(facts, examples.dataset), examples.left_out


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """The weights of a run that are scored, and the task that they are for."""

    task: Task[Any]
    run_dir: Path
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    """What a result says of them."""

    def score(
        self, facts: Mapping[str, Any], dataset: Dataset, stored: list[Row] | None = None
    ) -> dict[str, Any]:
        """Score the `stored` or new predictions of a run's weights, and store the result.

        Raises RunFailedError where an example has no prediction, or a score is not finite.
        """
        rows = self._predict(dataset) if stored is None else stored
        examples = len({row.example_id for row in rows})
        if not len(rows) == examples == len(dataset):
            raise RunFailedError(
                f"{len(rows)} predictions for {examples} of {len(dataset)} examples: the task's "
                "predict() must give one row an example"
            )
        split = facts["split"]
        try:
            finite_scores(self.task, rows)
        except ValueError as error:
            what = "the file" if split == "file" else f"the {split} split of {self.run_dir}"
            raise RunFailedError(f"{error} on {what}") from error
        intervals = bootstrap_intervals(self.task, rows)
        result = {
            **facts,
            "examples": len(rows),
            "replayed": stored is not None,
            "scores": {name: asdict(interval) for name, interval in intervals.items()},
        }
        store(self.run_dir, rows, result)
        return result

    def _predict(self, dataset: Dataset) -> list[Row]:
        model, device = trained_model(self.task, self.tensors)
        size = self.task.config.evaluation.batch_size
        return predict(self.task, model, dataset, batch_size=size, device=device)


def _weights(
    task: Task[Any], run_dir: Path, manifest: RunManifest, which: Checkpoint, steps: int | None
) -> _Weights:
    if steps is not None:
        task = task.with_steps(steps)
    tensors, step = load_weights(run_dir, which)
    task.use_validation(validation_scores(manifest, which))
    facts = {
        "run": run_dir.resolve().name,
        "task": task.name,
        "checkpoint": which,
        "step": step,
        "steps": steps,
        "weights_sha256": weights_sha256(tensors),
    }
    return _Weights(task=task, run_dir=run_dir, tensors=tensors, facts=facts)


def _unlock(run_dir: Path, facts: dict[str, Any], again: str | None) -> list[Row] | None:
    """Ask the lock for the test split to score; stored predictions of these very weights, if any.

    An opening is on the disk before the first prediction is made: whoever is killed in
    between has looked.
    """
    path, steps = ledger_path(), facts["steps"]
    weights, fingerprint = facts["weights_sha256"], facts["data_fingerprint"]
    answer = request_opening(
        path, fingerprint=fingerprint, weights_sha256=weights, again=again, steps=steps
    )
    if answer == "replay":
        opened = [o["run"] for o in read_ledger(path) if o["weights_sha256"] == weights]
        stored = find_stored([run_dir, *(project_root() / run for run in opened)], facts)
        return None if stored is None else read_rows(stored)
    full, root = run_dir.resolve(), project_root().resolve()
    opening = {
        "data_fingerprint": fingerprint,
        "task": facts["task"],
        "run": str(full.relative_to(root) if full.is_relative_to(root) else full),
        "checkpoint": facts["checkpoint"],
        "weights_sha256": weights,
        "reason": again,
        **({"steps": steps} if steps else {}),
    }
    record_opening(path, opening)
    return None


def trained_model(task: Task[Any], tensors: Mapping[str, Tensor]) -> tuple[nn.Module, torch.device]:
    """The model to score: the task's, with a run's weights, in eval mode, on its config's device.

    Threads and determinism are those of the config from then on.
    """
    runtime = task.config.runtime
    set_threads(runtime.threads)
    set_determinism(runtime.determinism)
    device = choose_device(runtime)
    model = task.build_model()
    model.load_state_dict(tensors)
    return model.to(device).eval(), device


def scores_table(result: dict[str, Any]) -> str:
    """The table of a scored run: each score with its interval."""
    head = (
        f"{result['run']}  {split_name(result)}, {result['checkpoint']} weights of step "
        f"{result['step']}, {result['examples']} examples"
    )
    if result["replayed"]:
        head += " (stored predictions, nothing opened)"
    width = max(20, *(len(name) + 2 for name in result["scores"]))
    lines = [
        f"  {name:<{width}}{s['value']:.4f}   95 % interval {s['low']:.4f} to {s['high']:.4f}"
        for name, s in result["scores"].items()
    ]
    return "\n".join([head, *lines])
