"""How long one example takes: in each workload that the task brings, or in one forward call.

A forward call is timed as the config runs it. A task's own workloads call parts of the model,
which `runtime.compile` does not reach; where the machine has a compiler they are timed eager and
once more with each block compiled; on a GPU, where the workload can, also by CUDA graphs, with
weights in the config's precision and each block compiled.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig
from ..training.device import autocast, blocks_of
from ..training.task import Task, Workload
from .inference import call_figures, one_forward_call
from .inputs import untrained_model
from .machine import Machine
from .timing import Limits

FORWARD = "forward"
EAGER, COMPILED, BLOCKS_COMPILED = "eager", "compiled", "blocks compiled"
GRAPHED = "CUDA graph"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Timing = dict[str, Any]
"""`workload`, its `description`, the `mode` that it ran in, and the figures."""


def timings(task: Task[Any], machine: Machine, limits: Limits) -> tuple[list[Timing], str | None]:
    """A timing of each workload in each mode, and why one of the modes failed, if so."""
    config: RunConfig = task.config
    model = untrained_model(task, machine.device).eval()
    found = [_in_context(each, machine, config) for each in task.workloads(model)]
    if not found:
        del model
        mode = COMPILED if config.runtime.compile else EAGER
        call = one_forward_call(task, machine)
        only = Workload(name=FORWARD, description="one forward call of example_input()", run=call)
        return [_timing(only, mode, machine, limits)], None
    rows = [_timing(each, EAGER, machine, limits) for each in found]
    if not (blocks_of(model) and all(each.compiles for each in found)):
        machine = replace(machine, compiler=None)
    failure = None
    if machine.compiler is not None:
        try:
            with compiled_blocks(model, machine.compiler):
                rows += _compiled_timings(found, machine, limits)
        except Exception as error:  # whatever a compiler, and what it calls, may raise
            failure = _in_one_line(error)
            machine = replace(machine, compiler=None)
    if machine.cuda_graphs:
        try:
            rows += _graphed_timings(task.workloads(model), machine, config, limits)
        except Exception as error:  # what cannot be recorded says so in many ways
            failure = f"{failure or ''}{'; ' if failure else ''}{GRAPHED}: {_in_one_line(error)}"
    return rows, failure


def _in_context(workload: Workload, machine: Machine, config: RunConfig) -> Workload:
    """The workload without gradients, in the precision of the config."""

    def run() -> None:
        with torch.inference_mode(), autocast(machine.device, config.training):
            workload.run()

    return replace(workload, run=run)


def _timing(workload: Workload, mode: str, machine: Machine, limits: Limits) -> Timing:
    return {
        "workload": workload.name,
        "description": workload.description,
        "mode": mode,
        **call_figures(workload.run, machine, limits),
    }


def _compiled_timings(
    workloads: Sequence[Workload], machine: Machine, limits: Limits
) -> list[Timing]:
    began = machine.clock.now()
    for each in workloads:  # this compiles, outside of the box of time
        each.run()
    machine.clock.synchronise(machine.device)
    first_calls_s = machine.clock.now() - began
    return [
        {**_timing(each, BLOCKS_COMPILED, machine, limits), "first_calls_s": first_calls_s}
        for each in workloads
    ]


def _graphed_timings(
    workloads: Sequence[Workload], machine: Machine, config: RunConfig, limits: Limits
) -> list[Timing]:
    dtype = DTYPES[config.training.precision]
    mode = GRAPHED if machine.compiler is None else f"{BLOCKS_COMPILED}, {GRAPHED}"
    rows = []
    for each in workloads:
        if each.graphed is None:
            continue
        began = machine.clock.now()
        with torch.inference_mode():
            run = each.graphed(dtype, machine.compiler)
            run()  # this compiles and records, outside of the box of time
            machine.clock.synchronise(machine.device)
            first_calls_s = machine.clock.now() - began
            row = _timing(replace(each, run=run), mode, machine, limits)
        rows.append({**row, "first_calls_s": first_calls_s})
    return rows


def _in_one_line(error: Exception) -> str:
    """The error's type and what it says; compilers put what went wrong into a later line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def compiled_blocks(model: nn.Module, compiler: str | Callable[..., Any]) -> Iterator[None]:
    """Within it each block of the model's nn.ModuleLists is compiled by itself.

    One graph of a whole recursion would unroll it, and take too long to compile. At the end the
    blocks are what they were, and torch.compile's caches are empty.
    """
    compiled: dict[nn.Module, Any] = {
        block: torch.compile(block, dynamic=False, backend=compiler) for block in blocks_of(model)
    }
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    places = [(each, at, block) for each in lists for at, block in enumerate(each)]
    try:
        for each, at, block in places:
            each[at] = compiled[block]
        yield
    finally:
        for each, at, block in places:
            each[at] = block
        torch.compiler.reset()
