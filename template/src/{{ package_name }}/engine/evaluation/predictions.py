"""Predictions: made once, stored, and scored as often as one likes."""

import json
import math
from collections.abc import Callable, Sequence
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


def predict(
    task: Task[Any],
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int,
    device: torch.device,
    poll: Callable[[], None] = lambda: None,
) -> list[Row]:
    """One row an example, in order. The global random numbers are as before.

    `poll` is called before each batch and may raise to leave. The model is in eval mode
    inside, and as it was afterwards.
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
    """Write one JSON object a line, whole or not at all; floats come back equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, "".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote. Raises RefusedInputError where it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Row(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise RefusedInputError(
            f"{path} cannot be read as predictions: {error}; remove it and evaluate again"
        ) from error


def finite_scores(task: Task[Any], rows: Sequence[Row]) -> dict[str, float]:
    """The task's scores. Raises ValueError naming a score that is not finite."""
    scores = task.scores(rows)
    for name, value in scores.items():
        if not math.isfinite(value):
            raise ValueError(f"the score {name} is {value}")
    return scores
