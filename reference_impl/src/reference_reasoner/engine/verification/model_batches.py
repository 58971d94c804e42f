"""Real batches and fresh models for the checks of a model."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..config.run_config import RunConfig
from ..data.dataset import Batch, Splits
from ..data.loader import evaluation_batches, training_batches
from ..seeding import seed_globals
from ..training.step import normalised
from ..training.task import Carry, StepKeys, Task

ROWS = 8
"""Examples in a batch of these checks."""


@dataclass(kw_only=True)
class Subject:
    """The task whose model is checked, on the CPU in fp32."""

    task: Task[Any]

    @property
    def config(self) -> RunConfig:
        """The task's config."""
        config: RunConfig = self.task.config
        return config

    @cached_property
    def splits(self) -> Splits:
        """The task's data."""
        return self.task.datasets()

    def model(self) -> nn.Module:
        """The model as a run starts with it."""
        seed_globals(self.config.seed, "init")
        return self.task.build_model()

    def candidates(self, step: int) -> Batch:
        """A few examples as training would draw them at `step`."""
        (batch,) = training_batches(
            self.splits.train,
            batch_size=min(ROWS, self.config.training.batch_size),
            seed=self.config.seed,
            first_step=step,
            last_step=step,
            workers=0,
        )
        return batch

    def validation(self) -> Batch:
        """The first few examples of the validation split."""
        return next(iter(evaluation_batches(self.splits.validation, ROWS)))

    def loss(
        self, model: nn.Module, candidates: Batch, carry: Carry | None = None, step: int = 1
    ) -> tuple[Tensor, Carry | None]:
        """The loss of one training step as the loop computes it, and the next carry."""
        batch, carry = self.task.begin(carry, candidates)
        counts = self.task.counts(batch, carry)
        keys = StepKeys(seed=self.config.seed, step=step, micro=0, rank=0)
        seed_globals(keys.dropout_seed())
        output = self.task.loss(model, batch, carry, keys)
        terms = normalised(output.terms, counts, self.task.per_micro_batch, 1)
        return torch.stack(list(terms.values())).sum(), output.carry


def without_dropout(model: nn.Module) -> nn.Module:
    """The model in training mode, but for its dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    return model


def numbers(value: Any) -> list[float]:
    """Every number inside the lists and mappings of a stored output, in order."""
    if isinstance(value, bool | int | float):
        return [float(value)]
    if isinstance(value, Mapping):
        return [number for each in value.values() for number in numbers(each)]
    if isinstance(value, list | tuple):
        return [number for each in value for number in numbers(each)]
    return []


def outputs(subject: Subject, model: nn.Module, batch: Batch) -> list[list[float]]:
    """The numbers of each row's prediction, in eval mode."""
    model.eval()
    with torch.no_grad():
        return [numbers(row.output) for row in subject.task.predict(model, batch)]


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch, in that order."""
    return {name: value[rows] for name, value in batch.items()}


def constant_rate(config: RunConfig, learning_rate: float) -> RunConfig:
    """The config with one learning rate for all steps and no weight decay."""
    return replace(
        config,
        training=replace(
            config.training,
            learning_rate=learning_rate,
            schedule="constant",
            warmup_steps=0,
            weight_decay=0.0,
        ),
    )
