"""Which micro-batch fits a given memory: arithmetic on what was counted at batch sizes 1 and 2.

    need(m) = weights + gradients + optimizer + average + activations(m) + reserve

Activations grow linearly with the micro-batch m. They are counted in fp32, which for autocast
to bf16 or fp16 is an upper bound.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from ..config import RunConfig
from ..errors import RefusedInputError
from ..training.task import Task
from .activations import Activations, saved_activations
from .exact import without_memory
from .inputs import example_arguments, repeated
from .weights import nbytes, optimizer_bytes, state_bytes, trainable

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
class Line:
    """a + b m bytes for a micro-batch of m examples."""

    constant: int
    per_example: int

    def at(self, micro_batch: int) -> int:
        """Bytes for `micro_batch` examples."""
        return self.constant + self.per_example * micro_batch

    @classmethod
    def through(cls, one: int, two: int) -> "Line":
        """The line through what 1 and 2 examples need."""
        return cls(constant=2 * one - two, per_example=two - one)


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
    options: tuple[Option, ...]
    chosen: Option | None
    why: str
    counted_on: str


def fit(task: Task[Any], memory_bytes: int) -> Plan:
    """The plan for training the task with its batch size in `memory_bytes`."""
    config: RunConfig = task.config
    (fixed, activations), counted_on = without_memory(task, _count)
    options = tuple(
        _option(checkpointing, line, sum(fixed.values()), memory_bytes, config.training.batch_size)
        for checkpointing, line in activations.items()
    )
    chosen, why = _choose(options, memory_bytes)
    return Plan(
        memory_bytes=memory_bytes,
        batch_size=config.training.batch_size,
        fixed_bytes=fixed,
        activations=activations,
        options=options,
        chosen=chosen,
        why=why,
        counted_on=counted_on,
    )


def _count(task: Task[Any]) -> tuple[dict[str, int], dict[bool, Line]]:
    config: RunConfig = task.config
    model = task.build_model().train()
    fixed = {
        "weights": state_bytes(model),
        "gradients": nbytes(trainable(model)),
        "optimizer": optimizer_bytes(model),
        "average": state_bytes(model) if config.training.ema_decay else 0,
    }
    arguments = example_arguments(task)
    one, two = (_activations(model, repeated(arguments, rows)) for rows in (1, 2))
    lines = {False: Line.through(one.all_bytes(), two.all_bytes())}
    if one.in_blocks:
        lines[True] = Line.through(one.checkpointed_bytes(), two.checkpointed_bytes())
    return fixed, lines


def _activations(model: Any, arguments: tuple[Any, ...]) -> Activations:
    return saved_activations(model, lambda: model(*arguments))[0]


def need(fixed: int, activations: int) -> int:
    """Bytes in all, with the reserve."""
    return CONTEXT_BYTES + math.ceil((fixed + activations) * (1 + SLACK))


def _option(checkpointing: bool, line: Line, fixed: int, memory: int, batch_size: int) -> Option:
    free = (memory - CONTEXT_BYTES) / (1 + SLACK) - fixed - line.constant
    largest = int(free // line.per_example) if line.per_example else batch_size * (free >= 0)
    micro_batch = max(0, min(batch_size, largest))
    if not micro_batch:
        return Option(
            activation_checkpointing=checkpointing,
            micro_batch=0,
            accumulation_steps=0,
            need_bytes=need(fixed, line.at(1)),
        )
    accumulation_steps = math.ceil(batch_size / micro_batch)
    even = math.ceil(batch_size / accumulation_steps)
    return Option(
        activation_checkpointing=checkpointing,
        micro_batch=even,
        accumulation_steps=accumulation_steps,
        need_bytes=need(fixed, line.at(even)),
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


def plan_lines(plan: Plan) -> list[str]:
    """What `profile --fit-vram` prints."""
    lines = [f"what fits {shown(plan.memory_bytes)} (counted on {plan.counted_on})"]
    lines += [f"  {name:<38}{shown(size):>12}" for name, size in plan.fixed_bytes.items()]
    lines.append(f"  {'reserve':<38}{shown(CONTEXT_BYTES):>12} + {SLACK:.0%} of the rest")
    for option in plan.options:
        name = "recomputed" if option.activation_checkpointing else "kept"
        line = plan.activations[option.activation_checkpointing]
        lines.append(f"  {f'an example, activations {name}':<38}{shown(line.per_example):>12}")
        fits = f"micro-batch {option.micro_batch} x {option.accumulation_steps} accumulation steps"
        said = fits if option.micro_batch else "not one example fits: it"
        lines.append(f"    {said} needs {shown(option.need_bytes)}")
    if plan.chosen is None:
        return [*lines, f"nothing fits: {plan.why}"]
    flag = str(plan.chosen.activation_checkpointing)
    return [
        *lines,
        f"take --training.accumulation_steps {plan.chosen.accumulation_steps} "
        f"--training.activation_checkpointing {flag} for the batch of {plan.batch_size}",
        f"because {plan.why}",
    ]
