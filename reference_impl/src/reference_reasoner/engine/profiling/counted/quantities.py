"""What a model costs, counted and not measured: the same on every machine.

The model is built and run on fake tensors, which have shapes and no memory (their storage is on
the meta device), so that size does not matter. A multiply-add counts as two FLOPs; attention
counts in full, also where a causal mask would let a kernel skip half of it. Batch norms that one
example cannot feed use their running statistics.
"""

import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from ...config.run_config import RunConfig
from ...errors import RefusedInputError
from ...training.task import Task
from ..model_inputs import example_arguments, moved, tensors_in
from .passes import Activations, saved_activations

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class ExactQuantities:
    """Exact quantities of a model, counted and not measured; the integers have budgets."""

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


_STEP_COUNTER_BYTES = 4
"""torch's AdamW keeps one float32 counter a parameter."""


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the elements of `tensors`, each counted once as often as it is named."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def parameters_by_module(model: nn.Module) -> dict[str, int]:
    """{module: number of parameters that it holds itself}; a shared one counts at its first."""
    counts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        module = name.rpartition(".")[0] or "(model)"
        counts[module] = counts.get(module, 0) + parameter.numel()
    return counts


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that an optimizer is given, each once."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def optimizer_bytes(model: nn.Module) -> int:
    """Bytes of AdamW's state: two moments of a parameter's size, and a counter, for each."""
    parameters = trainable(model)
    return 2 * nbytes(parameters) + _STEP_COUNTER_BYTES * len(parameters)


def held_bytes(model: nn.Module) -> int:
    """Bytes of parameters and buffers in memory: a shared one once, also if it is not saved."""
    return nbytes((*model.parameters(), *model.buffers()))


def state_bytes(model: nn.Module) -> int:
    """Bytes of the model's saved state, buffers included; a shared tensor is saved twice."""
    return nbytes(model.state_dict().values())


def checkpoint_bytes(model: nn.Module, *, ema: bool) -> int:
    """Tensor bytes of one checkpoint without a carry: state, its average, optimizer state."""
    return state_bytes(model) * (2 if ema else 1) + optimizer_bytes(model)


def graph_breaks(task: Task[Any]) -> int:
    """Breaks of a training forward pass; one that is left to Python as a whole counts as one.

    A fresh model is looked at and torch.compile's caches are emptied. Raises RefusedInputError
    for a model that torch.compile cannot follow at all.
    """
    with torch.random.fork_rng(devices=[]), _quiet():
        try:
            with torch.device("meta"):
                return _graph_breaks(task, torch.device("meta"))
        except Exception:  # whatever a model does that needs the numbers themselves
            pass
        try:
            return _graph_breaks(task, torch.device("cpu"))
        except RefusedInputError:
            raise
        except Exception as error:
            raise RefusedInputError(
                f"torch.compile cannot follow the model of the task {task.name}: {in_short(error)}"
            ) from error


def in_short(error: Exception) -> str:
    """The error's type and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is said of what dynamo finds: here it is counted, not mended."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _graph_breaks(task: Task[Any], device: torch.device) -> int:
    model = task.build_model().to(device).train()
    hold_batch_norms(model)  # which changes no graph, and lets them take one example
    arguments = moved(example_arguments(task), device)
    torch._dynamo.reset()
    counters.clear()
    try:
        explained = torch._dynamo.explain(model)(*arguments)
        if explained.graph_count:
            return int(explained.graph_break_count)
        frames = counters["frames"]  # no graph: nothing to compute, or given up, as an LSTM is
        return int(frames["total"] > frames["ok"])
    finally:
        torch._dynamo.reset()


def hold_batch_norms(model: torch.nn.Module) -> bool:
    """Let batch norms use their running statistics; whether there are any."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.eval()
    return bool(norms)
