"""The arguments of one forward call: moved, made larger, filled with noise."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run_config import RunConfig
from ..errors import RefusedInputError
from ..seeding import seed_globals, torch_generator
from ..training.device import checkpoint_activations
from ..training.task import Task


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with `change` applied to each tensor inside its tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(item, change) for item in value))
    if isinstance(value, tuple | list):
        return type(value)(map_tensors(item, change) for item in value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, change) for key, item in value.items()}
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside the tuples, lists and mappings of `value`, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def example_arguments(task: Task[Any]) -> tuple[Any, ...]:
    """The task's example_input(). Raises RefusedInputError where the task has none."""
    try:
        return task.example_input()
    except NotImplementedError as error:
        raise RefusedInputError(
            f"the task {task.name} says nothing of its model's input: write its example_input(), "
            "the arguments of one forward call with batch size 1"
        ) from error


def repeated(arguments: tuple[Any, ...], examples: int) -> tuple[Any, ...]:
    """`arguments` of batch size 1 as a batch of `examples` equal ones.

    Tensors whose first dimension is not 1 hold no batch and stay as they are.
    """

    def grow(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != 1:
            return tensor
        return tensor.repeat(examples, *[1] * (tensor.ndim - 1))

    grown: tuple[Any, ...] = map_tensors(arguments, grow)
    return grown


def with_noise(arguments: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    """`arguments` with standard normal numbers in every floating-point tensor.

    Integers stay: which of them a model takes, only the task knows.
    """
    generator = torch_generator(seed, "profile")

    def fill(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    filled: tuple[Any, ...] = map_tensors(arguments, fill)
    return filled


def moved(arguments: tuple[Any, ...], device: torch.device) -> tuple[Any, ...]:
    """`arguments` on `device`."""
    there: tuple[Any, ...] = map_tensors(arguments, lambda tensor: tensor.to(device))
    return there


def untrained_model(task: Task[Any], device: torch.device) -> nn.Module:
    """The model as a run of the task's config starts with it, on `device`."""
    config: RunConfig = task.config
    seed_globals(config.seed, "init")
    model = task.build_model()
    if config.training.activation_checkpointing:
        checkpoint_activations(model)
    return model.to(device)
