"""The validation that the training loop calls without knowing what it is."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig
from ..data.dataset import Dataset, Splits
from ..errors import RunFailedError
from ..training.task import Task
from .predictions import finite_scores, predict


def make_evaluator(
    task: Task[Any], splits: Splits, config: RunConfig, device: torch.device
) -> Callable[[nn.Module, Callable[[], None]], dict[str, float]]:
    """(model, poll) -> scores on the validation split, in fp32 and without a graph.

    Raises RunFailedError where a score is not finite: nothing could be the best after that.
    """

    def evaluate(model: nn.Module, poll: Callable[[], None]) -> dict[str, float]:
        rows = predict(
            task,
            model,
            splits.validation,
            batch_size=config.evaluation.batch_size,
            device=device,
            poll=poll,
        )
        try:
            return finite_scores(task, rows)
        except ValueError as error:
            raise RunFailedError(
                f"{error} on the validation split: {_where_to_look(splits.validation)}"
            ) from error

    return evaluate


def _where_to_look(dataset: Dataset) -> str:
    """The first number of the data that is not finite; without one it is the model or the rate."""
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
