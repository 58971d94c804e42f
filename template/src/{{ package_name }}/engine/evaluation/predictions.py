"""Predictions: made once, stored with what they are of and how they scored, read as often."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic_write import replace_text
from ..data.dataset import Dataset
from ..data.loader import evaluation_batches
from ..errors import RefusedInputError
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
