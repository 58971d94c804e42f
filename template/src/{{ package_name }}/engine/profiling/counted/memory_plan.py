"""Which micro-batch fits a given memory: arithmetic on what is counted at batch sizes 2 and 3.

    need(m) = weights + gradients + optimizer + average + old and new carry
              + max(activations(m) + ends(m), carry) + reserve

Activations grow linearly with the micro-batch m; one example alone would not do to count them,
as a batch norm refuses it. They are counted in the precision of the config, by autocast's rules
for a CPU, with the copies of the weights that autocast makes. The ends are the batch and, in
fp32, three times the model's output: what a cross-entropy keeps of it, and two gradients.

The carry is there as it was and, in parts, as the micro-batches have made it. The parts are
joined at the end of a step, when no activations are kept: then a third carry is there instead.
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ...config.run_config import RunConfig, TrainingConfig
from ...data.dataset import collate
from ...errors import RefusedInputError
from ...training.device import autocast
from ...training.task import Task
from ..model_inputs import example_arguments, repeated, tensors_in
from .passes import Activations, saved_activations
from .quantities import held_bytes, nbytes, optimizer_bytes, state_bytes, trainable, without_memory

OUTPUT_COPIES = 3
"""Tensors of the output's size that a loss and its backward pass hold at once."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Line of memory: a + b m bytes for a micro-batch of m examples."""

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
    """Counted terms of a memory plan but for the carry."""

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


CONTEXT_BYTES = 512 * 2**20
"""What a GPU's driver and libraries take before the first tensor."""
SLACK = 0.10
"""The allocator's rounding and fragments, and kernels' workspaces, as a share of the rest."""
SMALL_MICRO_BATCH = 8
"""Below it a GPU is mostly idle, and recomputing a forward pass costs less than that."""
_UNITS = {"GiB": 2**30, "MiB": 2**20, "GB": 10**9, "MB": 10**6}


def parse_memory(text: str) -> int:
    """Bytes of `6GiB`, `900MiB`, `6GB`, `900MB`. Raises RefusedInputError for anything else."""
    found = re.fullmatch(rf"(\d+(?:\.\d+)?) ?({'|'.join(_UNITS)})", text.strip())
    if found is None or not float(found[1]):
        raise RefusedInputError(
            f"--fit-vram {text}: write a number and a unit, as 6GiB (units: {', '.join(_UNITS)})"
        )
    return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True, kw_only=True)
class Option:
    """The largest micro-batch with or without activation checkpointing."""

    activation_checkpointing: bool
    micro_batch: int
    """0 where not even one example fits."""
    accumulation_steps: int
    need_bytes: int
    """At that micro-batch, or at 1 where none fits."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What fits, and why."""

    memory_bytes: int
    batch_size: int
    fixed_bytes: dict[str, int]
    """{what: bytes that do not depend on the micro-batch}"""
    activations: dict[bool, Line]
    """{with activation checkpointing: bytes of activations}"""
    ends: Line
    """The batch, and what the loss makes of the output."""
    precision: str
    options: tuple[Option, ...]
    chosen: Option | None
    why: str
    counted_on: str


def fit(task: Task[Any], memory_bytes: int) -> Plan:
    """The plan for training the task with its batch size in `memory_bytes`."""
    config: RunConfig = task.config
    counted, counted_on = without_memory(task, count, "batches 2 and 3")
    batch_size, carry = config.training.batch_size, carry_bytes(task)
    fixed_bytes = {**counted.fixed_bytes, "old_and_new_carry": 2 * carry}
    options = tuple(
        _option(
            checkpointing,
            _Growing(fixed=sum(fixed_bytes.values()), line=line + counted.ends, at_least=carry),
            memory_bytes,
            batch_size,
        )
        for checkpointing, line in counted.activations.items()
    )
    chosen, why = _choose(options, memory_bytes)
    return Plan(
        memory_bytes=memory_bytes,
        batch_size=batch_size,
        fixed_bytes=fixed_bytes,
        activations=counted.activations,
        ends=counted.ends,
        precision=config.training.precision,
        options=options,
        chosen=chosen,
        why=why,
        counted_on=counted_on,
    )


def need(fixed: int, activations: int) -> int:
    """Memory needed in all, with the reserve, in bytes."""
    return CONTEXT_BYTES + math.ceil((fixed + activations) * (1 + SLACK))


@dataclass(frozen=True, kw_only=True)
class _Growing:
    """What a step needs: `fixed`, and what grows with the micro-batch but is `at_least` so much."""

    fixed: int
    line: Line
    at_least: int

    def need(self, micro_batch: int) -> int:
        return need(self.fixed, max(self.line.at(micro_batch), self.at_least))

    def largest(self, memory: int, batch_size: int) -> int:
        """The largest micro-batch that fits; 0 where none does."""
        free = (memory - CONTEXT_BYTES) / (1 + SLACK) - self.fixed
        if free < self.at_least:
            return 0
        free, each = free - self.line.constant, self.line.per_example
        rows = int(free // each) if each else batch_size * (free >= 0)
        return max(0, min(batch_size, rows))


def _option(checkpointing: bool, growing: _Growing, memory: int, batch_size: int) -> Option:
    micro_batch = growing.largest(memory, batch_size)
    if not micro_batch:
        return Option(
            activation_checkpointing=checkpointing,
            micro_batch=0,
            accumulation_steps=0,
            need_bytes=growing.need(1),
        )
    accumulation_steps = math.ceil(batch_size / micro_batch)
    even = math.ceil(batch_size / accumulation_steps)
    return Option(
        activation_checkpointing=checkpointing,
        micro_batch=even,
        accumulation_steps=accumulation_steps,
        need_bytes=growing.need(even),
    )


def _choose(options: tuple[Option, ...], memory: int) -> tuple[Option | None, str]:
    plain, *checkpointed = options
    least = min(options, key=lambda option: option.need_bytes)
    if not any(option.micro_batch for option in options):
        return None, (
            f"one example alone needs {shown(least.need_bytes)}, and there are {shown(memory)}: a "
            "smaller model, a smaller input or more memory is needed"
        )
    if plain.accumulation_steps == 1:
        return plain, "the whole batch fits, and recomputing activations would only cost time"
    if not checkpointed or checkpointed[0].micro_batch == plain.micro_batch:
        return plain, "recomputing activations would not make a larger micro-batch fit"
    recomputing = checkpointed[0]
    if plain.micro_batch >= SMALL_MICRO_BATCH:
        return plain, (
            f"micro-batches of {plain.micro_batch} keep a GPU busy; recomputing activations "
            f"would allow {recomputing.micro_batch} and cost about a third more arithmetic"
        )
    return recomputing, (
        f"without recomputing only {plain.micro_batch} examples fit at once, which leaves a GPU "
        f"mostly idle; recomputing costs about a third more arithmetic and fits "
        f"{recomputing.micro_batch}"
    )


def shown(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.2f} MiB"
