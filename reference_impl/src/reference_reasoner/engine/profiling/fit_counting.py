"""What a training step needs of memory, counted at batch sizes 2 and 3 and without a GPU."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig, TrainingConfig
from ..data.dataset import collate
from ..training.device import autocast
from ..training.task import Task
from .activations import Activations, saved_activations
from .inputs import example_arguments, repeated, tensors_in
from .weights import held_bytes, nbytes, optimizer_bytes, state_bytes, trainable

OUTPUT_COPIES = 3
"""Tensors of the output's size that a loss and its backward pass hold at once."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """a + b m bytes for a micro-batch of m examples."""

    constant: int
    per_example: int

    def at(self, micro_batch: int) -> int:
        """Bytes for `micro_batch` examples."""
        return self.constant + self.per_example * micro_batch

    def __add__(self, other: "Line") -> "Line":
        return Line(
            constant=self.constant + other.constant,
            per_example=self.per_example + other.per_example,
        )

    @classmethod
    def through(cls, two: int, three: int) -> "Line":
        """The line through what 2 and 3 examples need."""
        return cls(constant=3 * two - 2 * three, per_example=three - two)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The terms of a plan but for the carry."""

    fixed_bytes: dict[str, int]
    activations: dict[bool, Line]
    ends: Line


def count(task: Task[Any]) -> Counted:
    """Count what batches of 2 and 3 need; on fake tensors if called among them."""
    config: RunConfig = task.config
    model = task.build_model().train()
    fixed = {
        "weights": held_bytes(model),
        "gradients": nbytes(trainable(model)),
        "optimizer": optimizer_bytes(model),
        "average": state_bytes(model) if config.training.ema_decay else 0,
    }
    arguments = example_arguments(task)
    (two, two_ends), (three, three_ends) = (
        _pass(model, repeated(arguments, rows), config.training) for rows in (2, 3)
    )
    kept = Line.through(two.all_bytes(), three.all_bytes())
    lines = {False: kept}
    if two.in_blocks:
        recomputed = Line.through(two.checkpointed_bytes(), three.checkpointed_bytes())
        if config.training.precision != "fp32":
            # autocast's copies of the weights stay until its forward pass is over
            recomputed = replace(recomputed, constant=max(kept.constant, recomputed.constant))
        lines[True] = recomputed
    ends = Line.through(two_ends, three_ends)
    return Counted(fixed_bytes=fixed, activations=lines, ends=ends)


def _pass(
    model: nn.Module, arguments: tuple[Any, ...], training: TrainingConfig
) -> tuple[Activations, int]:
    """What a forward pass keeps, and the bytes of its batch and of what a loss makes of it."""
    with autocast(torch.device("cpu"), training):
        activations, output = saved_activations(model, lambda: model(*arguments))
    elements = sum(tensor.numel() for tensor in tensors_in(output) if tensor.requires_grad)
    ends = nbytes(tensors_in(arguments)) + OUTPUT_COPIES * torch.float32.itemsize * elements
    return activations, ends


def carry_bytes(task: Task[Any]) -> int:
    """Bytes of the carry of a whole batch; 0 for a task without one, or without an example."""
    candidate = task.example_candidate()
    if candidate is None:
        return 0
    # not on fake tensors: the task may look at the numbers
    _, carry = task.begin(None, collate([candidate]))
    batch_size: int = task.config.training.batch_size
    return batch_size * nbytes((carry or {}).values())
