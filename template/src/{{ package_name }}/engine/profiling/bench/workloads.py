"""What `gpu_bench` times for one example, and how long that takes at least.

A forward call is timed as the config runs it. A task's own workloads call parts of the model,
which `runtime.compile` does not reach; where the machine has a compiler they are timed eager and
once more with each block compiled; on a GPU, where the workload can, also by CUDA graphs, with
weights in the config's precision and each block compiled.

The bound is the larger of two times (Williams, Waterman and Patterson 2009): that of the FLOPs at
the measured rate of matrix products, and that of reading a block's weights once each time it is
called, in the precision of the config, at the measured bandwidth of copies. Caches that hold all
weights beat the latter; nothing that a kernel does beats the former.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ...config.run_config import RunConfig
from ...training.device import autocast, blocks_of
from ...training.task import Task, Workload
from ..measured.machine import Limits, Machine
from ..measured.passes import call_figures, one_forward_call
from ..measured.roofline import DTYPES, measured_ceilings
from ..model_inputs import example_arguments, moved, untrained_model

FORWARD = "forward"
EAGER, COMPILED, BLOCKS_COMPILED = "eager", "compiled", "blocks compiled"
GRAPHED = "CUDA graph"

Timing = dict[str, Any]
"""`workload`, its `description`, the `mode` that it ran in, and the figures."""


def timings(task: Task[Any], machine: Machine, limits: Limits) -> tuple[list[Timing], str | None]:
    """Time each workload in each mode, eager and compiled; or why a mode failed."""
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


class _Calls:
    """How often blocks were called, and the bytes of their weights, once a call."""

    def __init__(self, itemsize: int) -> None:
        self.count, self.weight_bytes, self._itemsize = 0, 0, itemsize

    def note(self, block: nn.Module, *_: object) -> None:
        """One more call."""
        self.count += 1
        self.weight_bytes += self._itemsize * sum(each.numel() for each in block.parameters())


def workload_bounds(
    task: Task[Any], machine: Machine, forward_flops: int | None
) -> dict[str, float]:
    """{workload: milliseconds that it takes at least}, by ceilings that are measured here.

    `forward_flops` are those of one forward call of the model (exact.py); those of a workload are
    as many times more as it calls blocks more often, as nearly all of them are in blocks. Empty for
    a task without workloads, for a model without blocks and where `forward_flops` is None.
    """
    config: RunConfig = task.config
    model = untrained_model(task, machine.device).eval()
    workloads = task.workloads(model)
    if forward_flops is None or not workloads or not blocks_of(model):
        return {}
    arguments = moved(example_arguments(task), machine.device)

    def calls_of(run: Callable[[], object]) -> _Calls:
        itemsize = DTYPES[config.training.precision].itemsize
        in_context = autocast(machine.device, config.training)
        with torch.inference_mode(), in_context, _counted(model, itemsize) as calls:
            run()
        return calls

    roof = measured_ceilings(machine, config.training.precision)
    once = calls_of(lambda: model(*arguments))
    found = {each.name: calls_of(each.run) for each in workloads}
    return {
        name: 1e3 * roof.bound_s(forward_flops * calls.count / once.count, calls.weight_bytes)
        for name, calls in found.items()
    }


@contextmanager
def _counted(model: nn.Module, itemsize: int) -> Iterator[_Calls]:
    calls = _Calls(itemsize)
    handles = [block.register_forward_hook(calls.note) for block in blocks_of(model)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def fastest(summarised: Sequence[Timing], workload: str | None = None) -> Timing:
    """The timing of a workload, else of the first one, in the mode with the lowest p50."""
    name = workload or summarised[0]["workload"]
    of_it = [row for row in summarised if row["workload"] == name]
    return min(of_it, key=lambda row: float(row["latency_batch1_p50_ms"]))
