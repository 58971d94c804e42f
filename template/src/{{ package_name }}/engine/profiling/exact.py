"""What a model costs, counted and not measured: the same on every machine.

The model is built and run on fake tensors, which have shapes and no memory (their storage is on
the meta device), so that size does not matter. A multiply-add counts as two FLOPs; attention
counts in full, also where a causal mask would let a kernel skip half of it. Batch norms that one
example cannot feed use their running statistics.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..config.run_config import RunConfig
from ..errors import RefusedInputError
from ..training.task import Task
from .activations import Activations, saved_activations
from .graph import graph_breaks, hold_batch_norms, in_short
from .inputs import example_arguments, tensors_in
from .weights import checkpoint_bytes, optimizer_bytes, parameters_by_module, trainable

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class ExactQuantities:
    """What is counted; the integers have budgets."""

    parameters: int
    """Numbers in all parameters; a shared one counts once."""
    trainable_parameters: int
    forward_flops_per_example: int
    training_flops_per_example: int
    """Forward and backward pass; an optimizer's update is not in it."""
    saved_activation_bytes_per_example: int
    """Kept from the forward to the backward pass, at batch size 1 in fp32."""
    optimizer_bytes: int
    """AdamW's state."""
    checkpoint_bytes: int
    """Tensors of one checkpoint: model, optimizer, average if there is one; no carry."""
    graph_breaks: int
    """Places where torch.compile has to leave the graph of the forward pass."""
    parameters_by_module: Mapping[str, int]
    counted_on: str
    """`meta`, or `cpu at batch 1` and why."""

    def budgeted(self) -> dict[str, int]:
        """The quantities that have budgets, by name in alphabetical order."""
        return {
            field.name: getattr(self, field.name)
            for field in sorted(dataclasses.fields(self), key=lambda field: field.name)
            if field.type is int
        }


def exact_quantities(task: Task[Any]) -> ExactQuantities:
    """Count what one example costs the task's model.

    Raises RefusedInputError where the model does not run on the task's example_input().
    """
    passes, counted_on = without_memory(task, _passes)
    config: RunConfig = task.config
    model = passes.model
    return ExactQuantities(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in trainable(model)),
        forward_flops_per_example=passes.forward_flops,
        training_flops_per_example=passes.training_flops,
        saved_activation_bytes_per_example=passes.activations.all_bytes(),
        optimizer_bytes=optimizer_bytes(model),
        checkpoint_bytes=checkpoint_bytes(model, ema=config.training.ema_decay > 0),
        graph_breaks=graph_breaks(task),
        parameters_by_module=parameters_by_module(model),
        counted_on=counted_on,
    )


def without_memory(
    task: Task[Any], count: Callable[[Task[Any]], ResultT], batches: str = "batch 1"
) -> tuple[ResultT, str]:
    """`count(task)` on fake tensors, or on the CPU where the model needs real numbers.

    Returns also where it was counted; `batches` says at which sizes. Random numbers drawn
    meanwhile are given back.
    """
    # a device context of meta would not do: attention would take another path than on a device
    with torch.random.fork_rng(devices=[]):
        try:
            # what the task made earlier, such as a stored example input, becomes fake on its way
            with FakeTensorMode(allow_non_fake_inputs=True):
                return count(task), "meta"
        except RefusedInputError:
            raise
        except Exception as error:  # whatever a model does that needs the numbers themselves
            why = in_short(error)
        try:
            return count(task), f"cpu at {batches}: the model does not run on meta tensors ({why})"
        except Exception as error:
            if isinstance(error, RefusedInputError):
                raise
            raise RefusedInputError(
                f"the model of the task {task.name} does not run on its example_input(): "
                f"{in_short(error)}"
            ) from error


@dataclass(frozen=True, kw_only=True)
class _Passes:
    model: nn.Module
    activations: Activations
    forward_flops: int
    training_flops: int


def _passes(task: Task[Any]) -> _Passes:
    model = task.build_model().train()
    arguments = example_arguments(task)
    try:
        activations = saved_activations(model, lambda: model(*arguments))[0]
    except ValueError:
        if not hold_batch_norms(model):
            raise
        activations = saved_activations(model, lambda: model(*arguments))[0]
    return _with_flops(model, arguments, activations)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """No fused oneDNN kernels, of which the counter does not know the LSTM."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the flag for TF32 beside it, which CPUs lack
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@_plain_kernels()
def _with_flops(model: nn.Module, arguments: tuple[Any, ...], activations: Activations) -> _Passes:
    # the counter knows plain matrix products on every device, and not every fused kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = model(*arguments)
        forward = counter.get_total_flops()
        total = [t.sum() for t in tensors_in(output) if t.requires_grad]
        if total:
            torch.autograd.backward(total)
    return _Passes(
        model=model,
        activations=activations,
        forward_flops=forward,
        training_flops=counter.get_total_flops(),
    )
