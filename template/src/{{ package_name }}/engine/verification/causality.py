"""Does an output know of later positions? By value and by gradient.

T positions in dimension 1 of the inputs and outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..profiling.model_inputs import map_tensors, tensors_in
from ..seeding import torch_generator
from .items import FailedError

_TOLERANCE = 1e-5


def sees_the_future(model: nn.Module, arguments: tuple[Any, ...]) -> str | None:
    """How an output of `model` depends on a later position of `arguments`; None if none does.

    Raises FailedError where inputs and outputs have no common dimension 1 of two or more.
    """
    length = _length(arguments)
    generator = torch_generator(0, "causality")
    first = _filled(arguments, length, generator)
    for position in range(length - 1):
        other = _changed_after(first, position, length, generator)
        found = _by_value(model, first, other, position, length)
        if found is not None:
            return found
    return _by_gradient(model, first, length)


def _length(arguments: tuple[Any, ...]) -> int:
    lengths = {tensor.shape[1] for tensor in tensors_in(arguments) if tensor.ndim > 1}
    if not lengths or max(lengths) < 2:
        raise FailedError(
            "example_input() has no second dimension of two or more positions: give it one"
        )
    return max(lengths)


def _is_sequence(tensor: Tensor, length: int) -> bool:
    return tensor.ndim > 1 and tensor.shape[1] == length


def _noise(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Floats: standard normal. Integers: in the range seen, for only the task knows more."""
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
    if tensor.dtype == torch.bool:
        return tensor
    highest = max(1, int(tensor.max()))
    return torch.randint(0, highest + 1, tensor.shape, generator=generator).to(tensor.dtype)


def _filled(arguments: Any, length: int, generator: torch.Generator) -> Any:
    return map_tensors(arguments, lambda t: _noise(t, generator) if _is_sequence(t, length) else t)


def _changed_after(arguments: Any, position: int, length: int, generator: torch.Generator) -> Any:
    def change(tensor: Tensor) -> Tensor:
        if not _is_sequence(tensor, length):
            return tensor
        later = torch.arange(length) > position
        mask = later.view(1, length, *[1] * (tensor.ndim - 2))
        return torch.where(mask, _noise(tensor, generator), tensor)

    return map_tensors(arguments, change)


def _sequences(output: Any, length: int) -> list[Tensor]:
    found = [
        tensor
        for tensor in tensors_in(output)
        if tensor.is_floating_point() and _is_sequence(tensor, length)
    ]
    if not found:
        raise FailedError(f"no output has {length} positions in its second dimension")
    return found


def _by_value(model: nn.Module, first: Any, other: Any, position: int, length: int) -> str | None:
    with torch.no_grad():
        one, two = (_sequences(model(*given), length) for given in (first, other))
    for before, after in zip(one, two, strict=True):
        apart = (before - after).abs()[:, : position + 1]
        if apart.max() > _TOLERANCE * before.abs().max().clamp_min(1):
            where = (
                int(apart.flatten(2).amax((0, 2)).argmax())
                if apart.ndim > 2
                else int(apart.amax(0).argmax())
            )
            return (
                f"the output at position {where} changes by {float(apart.max()):.1e} with inputs "
                f"after position {position}: it sees the future"
            )
    return None


def _by_gradient(model: nn.Module, first: Any, length: int) -> str | None:
    """The gradient of each half's outputs with respect to floating inputs of the other half."""
    floats = [t for t in tensors_in(first) if t.is_floating_point() and _is_sequence(t, length)]
    if not floats:
        return None
    for tensor in floats:
        tensor.requires_grad_(True)
    middle = length // 2
    total = torch.stack([t[:, :middle].sum() for t in _sequences(model(*first), length)]).sum()
    gradients = torch.autograd.grad(total, floats, allow_unused=True)
    for gradient in gradients:
        if gradient is not None and gradient[:, middle:].any():
            return (
                f"outputs before position {middle} have a gradient into later inputs: they see "
                "the future"
            )
    return None
