"""The validation that the training loop calls without knowing what it is."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..config import RunConfig
from ..data.dataset import Splits
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
                f"{error} on the validation split: look at the model's outputs, or lower "
                "training.learning_rate"
            ) from error

    return evaluate
