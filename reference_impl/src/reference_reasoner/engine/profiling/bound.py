"""How long a task's workloads take at least: the bound that their latency is held against.

The larger of two times (Williams, Waterman and Patterson 2009): that of the FLOPs at the measured
rate of matrix products, and that of reading a block's weights once each time it is called, in the
precision of the config, at the measured bandwidth of copies. Caches that hold all weights beat
the latter; nothing that a kernel does beats the former.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig
from ..training.device import autocast, blocks_of
from ..training.task import Task
from .ceilings import DTYPES, measured_ceilings
from .inputs import example_arguments, moved, untrained_model
from .machine import Machine


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
