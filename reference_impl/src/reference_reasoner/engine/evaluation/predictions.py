"""Predictions: made, scored on validation, stored with what they are of, and read back."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic_write import replace_text
from ..config.run_config import RunConfig
from ..data.dataset import Dataset, Splits
from ..data.loader import evaluation_batches
from ..errors import RefusedInputError, RunFailedError
from ..tracking.manifest import RunManifest
from ..training.task import Row, Task

_IDENTITY = ("split", "weights_sha256", "data_fingerprint", "steps")


def predict(
    task: Task[Any],
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int,
    device: torch.device,
    poll: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Predict every example of a data set: one row each, in order.

    The global random numbers are as before. `poll` is called before each batch and may raise to
    leave. The model is in eval mode inside, and as it was afterwards.
    """
    rows: list[Row] = []
    was_training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            for batch in evaluation_batches(dataset, batch_size):
                poll()
                rows += task.predict(model, {k: v.to(device) for k, v in batch.items()})
    finally:
        model.train(was_training)
    return rows


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write predictions as JSON, one row a line, whole or not at all; floats come back equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """Read stored predictions. Raises RefusedInputError where they cannot be read."""
    try:
        return [Row(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise RefusedInputError(
            f"{path} cannot be read as predictions: {error}; remove it and evaluate again"
        ) from error


def store(run_dir: Path, rows: Sequence[Row], result: Mapping[str, Any]) -> Path:
    """Write predictions to `<split>-<weights>-<data>.jsonl` of a run, and their result beside."""
    path = _path(run_dir, result)
    write_rows(path, rows)
    sealed = {**result, "rows_sha256": _sha256(path)}
    replace_text(path.with_suffix(".json"), json.dumps(sealed, indent=2) + "\n")
    return path


def find_stored(run_dirs: Iterable[Path], facts: Mapping[str, Any]) -> Path | None:
    """The undamaged stored predictions of these weights on this split of this data, if any."""
    for run_dir in run_dirs:
        path = _path(run_dir, facts)
        result = _read_result(path.with_suffix(".json")) or {}
        same = all(result.get(key) == facts.get(key) for key in _IDENTITY)
        if same and path.exists() and _sha256(path) == result["rows_sha256"]:
            return path
    return None


def results(run_dir: Path) -> list[dict[str, Any]]:
    """Every result that stands beside a run's stored predictions, unreadable ones left out."""
    paths = sorted((run_dir / "predictions").glob("*.json"))
    return [result for path in paths if (result := _read_result(path)) is not None]


def split_name(result: Mapping[str, Any]) -> str:
    """The name of what stored predictions are of: a split or file, and the steps if asked for."""
    name = f"file {result['file']}" if result["split"] == "file" else f"{result['split']}"
    return f"{name}, {result['steps']} steps" if result.get("steps") else name


def _read_result(path: Path) -> dict[str, Any] | None:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "rows_sha256" in result else None


def _path(run_dir: Path, facts: Mapping[str, Any]) -> Path:
    name = f"{facts['split']}-{facts['weights_sha256'][:12]}-{facts['data_fingerprint'][:12]}"
    if facts.get("steps"):
        name += f"-{facts['steps']}-steps"
    return run_dir / "predictions" / f"{name}.jsonl"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_evaluator(
    task: Task[Any], splits: Splits, config: RunConfig, device: torch.device
) -> Callable[[nn.Module, Callable[[], None]], dict[str, float]]:
    """Make the validation of the training loop: (model, poll) -> scores, in fp32, without a graph.

    Raises RunFailedError where a score is not finite: nothing could be the best after that.
    """

    def evaluate(model: nn.Module, poll: Callable[[], None]) -> dict[str, float]:
        size = config.evaluation.batch_size
        data = splits.validation
        rows = predict(task, model, data, batch_size=size, device=device, poll=poll)
        try:
            return finite_scores(task, rows)
        except ValueError as error:
            raise RunFailedError(
                f"{error} on the validation split: {_where_to_look(data)}"
            ) from error

    return evaluate


def _where_to_look(dataset: Dataset) -> str:
    """Where to look for what made a validation score not finite: in the data, model or rate."""
    for index in range(len(dataset)):
        for name, value in dataset.example(index, None).items():
            wrong = value[~value.isfinite()]
            if len(wrong):
                example = int(dataset.example(index, None)["example_id"])
                return f"`{name}` of example {example} holds {wrong[0]}: look for it in the data"
    return (
        "the data is finite, so look at the model's outputs, or after step 0 lower "
        "training.learning_rate"
    )


def finite_scores(task: Task[Any], rows: Sequence[Row]) -> dict[str, float]:
    """Score validation or other predictions; raises ValueError naming a score not finite."""
    scores = task.scores(rows)
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ValueError(f"the score {name} is {value}")
    return scores


def validation_scores(manifest: RunManifest, which: str) -> dict[str, float]:
    """The validation scores that a run's weights had while it trained, {} if it kept none."""
    best = manifest.data["best"]
    if best is None:
        return {}
    if which == "best":
        return dict(best.get("scores", {}))  # a run of an older version has none
    prefix = f"{best['weights'] if which == 'last' else which}/"
    final = manifest.data["final_metrics"] or {}
    return {k.removeprefix(prefix): v for k, v in final.items() if k.startswith(prefix)}
