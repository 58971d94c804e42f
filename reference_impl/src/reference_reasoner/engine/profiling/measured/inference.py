"""Latency at batch 1 and throughput over batch sizes, in the run's precision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...config.run_config import RunConfig
from ...training.device import autocast, compiled
from ...training.task import Task
from ..model_inputs import example_arguments, moved, repeated, untrained_model
from .machine import BOX_S, Limits, Machine, memory_figures, percentiles, reset_memory, sample_ms

LATENCY_LIMITS = Limits()


def latency(
    task: Task[Any], machine: Machine, limits: Limits = LATENCY_LIMITS
) -> dict[str, float | int | str | None]:
    """`latency_batch1_*` of one example after another, and the peak memory meanwhile."""
    return call_figures(one_forward_call(task, machine), machine, limits)


def one_forward_call(task: Task[Any], machine: Machine, examples: int = 1) -> Callable[[], None]:
    """A forward call of an untrained model with `examples`, compiled if the config says so."""
    return _caller(task, _ready_model(task, machine), machine, examples)


def call_figures(
    call: Callable[[], object], machine: Machine, limits: Limits
) -> dict[str, float | int | str | None]:
    """`latency_batch1_*` of `call`, which works on one example, and the peak memory meanwhile."""
    reset_memory(machine)
    samples = sample_ms(call, clock=machine.clock, device=machine.device, limits=limits)
    return {
        **percentiles(samples, "latency_batch1"),
        "latency_batch1_warm_up_iterations": limits.warm_up,
        **memory_figures(machine, "inference_batch1"),
    }


def batch_sizes(largest: int) -> list[int]:
    """1, 2, 4, ... and `largest` itself."""
    powers = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    return [*powers, largest]


def throughput(task: Task[Any], machine: Machine, *, box_s: float = BOX_S) -> dict[str, Any]:
    """Examples a second at each batch size up to the run's, for as long as box and memory last.

    The box is that of all batch sizes together.
    """
    largest = task.config.training.batch_size
    model = _ready_model(task, machine)
    began = machine.clock.now()
    rows: list[dict[str, float | int]] = []
    stopped_by = f"the run's batch size of {largest} examples"
    for size in batch_sizes(largest):
        left_s = box_s - (machine.clock.now() - began)
        if left_s <= 0:
            stopped_by = f"the box of {box_s:g} s"
            break
        limits = Limits(warm_up=3, samples=50, box_s=left_s)
        try:
            call = _caller(task, model, machine, size)
            samples = sample_ms(call, clock=machine.clock, device=machine.device, limits=limits)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            stopped_by = f"out of memory at {size} examples"
            break
        total_s = sum(samples) / 1e3
        rows.append(
            {
                "batch_examples": size,
                "throughput_examples_per_s": size * len(samples) / total_s,
                "samples": len(samples),
            }
        )
    rates = [row["throughput_examples_per_s"] for row in rows]
    return {
        "throughput_by_batch": rows,
        "throughput_best_examples_per_s": max(rates, default=None),
        "throughput_stopped_by": stopped_by,
    }


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory is used up; the CPU allocator has no type of its own."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _ready_model(task: Task[Any], machine: Machine) -> nn.Module:
    return untrained_model(task, machine.device).eval()


def _caller(task: Task[Any], model: nn.Module, machine: Machine, size: int) -> Callable[[], None]:
    """One forward pass of `size` examples that already are on the device."""
    config: RunConfig = task.config
    if config.runtime.compile:
        torch.compiler.reset()  # each batch size is compiled as the first one is
    ready = compiled(task, model)
    arguments = moved(repeated(example_arguments(task), size), machine.device)

    def call() -> None:
        with torch.inference_mode(), autocast(machine.device, config.training):
            ready(*arguments)

    return call
