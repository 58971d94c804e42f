"""Where the model runs and in which precision."""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..config.run_config import RuntimeConfig, TrainingConfig
from ..errors import RefusedInputError
from .task import Task


def choose_device(runtime: RuntimeConfig) -> torch.device:
    """The device that `runtime.device` names; auto takes cuda, then mps, then cpu.

    Raises RefusedInputError for a device that this machine or this build of torch lacks.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if runtime.device == "auto":
        return torch.device(next((name for name, found in there.items() if found), "cpu"))
    if not there.get(runtime.device, True):
        raise RefusedInputError(
            f"runtime.device is {runtime.device!r}, but torch {torch.__version__} finds no such "
            "device here: use cpu or auto"
        )
    return torch.device(runtime.device)


def autocast(device: torch.device, training: TrainingConfig) -> AbstractContextManager[object]:
    """The autocast context of forward passes; does nothing in fp32."""
    dtype = torch.float16 if training.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=training.precision != "fp32")


def compiled(task: Task[Any], model: nn.Module) -> nn.Module:
    """`model`, or its compiled form; every step has one fixed shape, so none is dynamic.

    Where the task says that a call repeats the blocks, each of them is compiled by itself and in
    place: names of parameters stay as they are.
    """
    if not task.config.runtime.compile:
        return model
    if not task.repeats_blocks:
        return torch.compile(model, dynamic=False)  # type: ignore[return-value]
    for block in blocks_of(model):
        block.compile(dynamic=False)
    return model


def blocks_eager(runtime: RuntimeConfig) -> AbstractContextManager[object]:
    """Inside, compiled blocks run eager: the shapes of an evaluation would each be compiled."""
    if not runtime.compile:
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def build_scaler(device: torch.device, training: TrainingConfig) -> torch.amp.GradScaler | None:
    """fp16's loss scaler: gradients too small for fp16 are scaled up before backward."""
    return torch.amp.GradScaler(device.type) if training.precision == "fp16" else None


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The members of the model's nn.ModuleLists, each once: the parts that it repeats."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return list(dict.fromkeys(block for blocks in lists for block in blocks))


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute each block of the model's nn.ModuleLists in backward instead of storing it.

    Names of parameters stay as they are. Raises RefusedInputError for a model without blocks,
    of which nothing could be recomputed.
    """
    blocks = blocks_of(model)
    if not blocks:
        raise RefusedInputError(
            "training.activation_checkpointing is on, but the model keeps no blocks in an "
            "nn.ModuleList: turn it off, or put the repeated blocks into one"
        )
    for block in blocks:
        # of the block and not of its bound method: a copy of the model then recomputes its own
        block.forward = functools.partial(_recomputed, block)


def _recomputed(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = functools.partial(type(block).forward, block)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
