"""Parameters, and the bytes of everything that lives as long as the model."""

from collections.abc import Iterable

from torch import Tensor, nn

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
