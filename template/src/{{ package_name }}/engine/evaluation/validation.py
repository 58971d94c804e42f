"""Validation scores: while a run trains, for the loop that calls this, and afterwards."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig
from ..data.dataset import Dataset, Splits
from ..errors import RunFailedError
from ..tracking.manifest import RunManifest
from ..training.task import Row, Task
from .predictions import predict


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
