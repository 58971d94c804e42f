"""One profile as JSON values: what is counted exactly, and what was measured here.

Every key of a figure ends in its unit, and beside the figures stands what they are true of.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..errors import RefusedInputError
from ..training.task import Task
from .counted.memory_plan import CONTEXT_BYTES, SLACK, Option, Plan
from .counted.quantities import ExactQuantities
from .measured.machine import Limits, Machine, percentile, sample_ms
from .measured.passes import latency, one_forward_call, step_figures, throughput, trainer
from .measured.roofline import (
    Ceilings,
    Pass,
    ceiling_values,
    measured_ceilings,
    pass_values,
    profiled,
)

FORWARD_LIMITS = Limits(warm_up=3, samples=20, box_s=10.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What is profiled."""

    task: Task[Any]
    preset: str | None = None
    run: str | None = None


def header(subject: Subject, machine: Machine) -> dict[str, Any]:
    """Header of a profile's values: what was profiled, how and on what."""
    config: RunConfig = subject.task.config
    return {
        "schema": 1,
        "task": subject.task.name,
        "preset": subject.preset,
        "run": subject.run,
        **machine.facts(),
        "precision": config.training.precision,
        "compile": config.runtime.compile,
        "determinism": config.runtime.determinism,
        "activation_checkpointing": config.training.activation_checkpointing,
    }


def exact_values(quantities: ExactQuantities) -> dict[str, Any]:
    """The counted quantities, `counted_on` and `parameters_by_module` among them."""
    values = {item.name: getattr(quantities, item.name) for item in dataclasses.fields(quantities)}
    return {**values, "parameters_by_module": dict(quantities.parameters_by_module)}


def plan_values(plan: Plan) -> dict[str, Any]:
    """Values of a memory plan: what fits a memory, and why."""

    def option_values(option: Option) -> dict[str, Any]:
        line = plan.activations[option.activation_checkpointing]
        return {
            "activation_checkpointing": option.activation_checkpointing,
            "micro_batch_examples": option.micro_batch,
            "accumulation_steps": option.accumulation_steps,
            "activation_bytes_per_example": line.per_example,
            "activation_bytes_at_any_batch": line.constant,
            "need_bytes": option.need_bytes,
        }

    return {
        "memory_bytes": plan.memory_bytes,
        "batch_examples": plan.batch_size,
        **{f"{name}_bytes": size for name, size in plan.fixed_bytes.items()},
        "precision": plan.precision,
        "batch_and_loss_bytes_per_example": plan.ends.per_example,
        "reserve_bytes": CONTEXT_BYTES,
        "reserve_percent": 100 * SLACK,
        "options": [option_values(option) for option in plan.options],
        "chosen": None if plan.chosen is None else option_values(plan.chosen),
        "why": plan.why,
        "counted_on": plan.counted_on,
    }


def measured_values(
    task: Task[Any], machine: Machine, trace: Path | None, exact: ExactQuantities
) -> dict[str, Any]:
    """Measured values of a profile: every figure that takes a clock, each boxed in time.

    Without the task's data the training figures are missing, and `training_reason` says why.
    """
    config: RunConfig = task.config
    figures: dict[str, Any] = {**latency(task, machine), **throughput(task, machine)}
    roof = measured_ceilings(machine, config.training.precision)
    roofline = {
        **ceiling_values(roof, config.training.precision),
        "forward": _forward_roofline(task, machine, roof, exact, figures),
        "training_step": None,
    }
    try:
        with trainer(task, machine) as steps:
            figures |= step_figures(steps)
            batch = steps.load()
            figures |= profiled(lambda: steps.step(batch), machine, trace)
            step = Pass(
                run=lambda: steps.step(batch),
                examples=config.training.batch_size,
                model_flops=exact.training_flops_per_example * config.training.batch_size,
                median_ms=figures["training_step_p50_ms"],
                compiled=config.runtime.compile,
            )
            roofline["training_step"] = pass_values(step, machine, roof)
    except RefusedInputError as error:
        if trace is not None:
            raise  # a trace was asked for, and there is none without a step
        return {**figures, "training_reason": str(error), "roofline": roofline}
    return {**figures, "training_reason": None, "roofline": roofline}


def _forward_roofline(
    task: Task[Any],
    machine: Machine,
    roof: Ceilings,
    exact: ExactQuantities,
    figures: Mapping[str, Any],
) -> dict[str, Any] | None:
    """That of the largest batch that throughput reached; None where there was none."""
    sizes = [row["batch_examples"] for row in figures["throughput_by_batch"]]
    if not sizes:
        return None
    call = one_forward_call(task, machine, sizes[-1])
    samples = sample_ms(call, clock=machine.clock, device=machine.device, limits=FORWARD_LIMITS)
    forward = Pass(
        run=call,
        examples=sizes[-1],
        model_flops=exact.forward_flops_per_example * sizes[-1],
        median_ms=percentile(samples, 50),
        compiled=task.config.runtime.compile,
    )
    return pass_values(forward, machine, roof)
