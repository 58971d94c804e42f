"""A chunk of the exact deep memory on a GPU, its products and what is around them compiled.

A chunk is 55 kernels that each wait for the one before; compiled it is about 15, with one more
between the halves, which solves for the errors (memory_sequential.py).
"""

import functools
import warnings

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from .memory_deep_writes import DeepChunk, Left, asked, exact_chunk, told
from .memory_gates import Gates, decay_of

TOLERANCE = 1e-2
"""Of the largest number; above what TF32 may do to the products of either side."""
_asked, _told = torch.compile(asked, dynamic=False), torch.compile(told, dynamic=False)


def compiled_chunk(part: DeepChunk, first: Tensor, second: Tensor) -> tuple[Left, Tensor, Tensor]:
    """`exact_chunk`."""
    return exact_chunk(part, first, second, asked=_asked, told=_told)


@functools.cache
def agrees(device: torch.device) -> bool:
    """Whether it gives what `exact_chunk` gives; where it does not, a warning says why."""
    problem = ""
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            given = _example(device)
            (_, *found), (_, *exact) = compiled_chunk(*given), exact_chunk(*given)
        off = [(a - b).abs().max() / b.abs().max() for a, b in zip(found, exact, strict=True)]
        problem = "" if all(each <= TOLERANCE for each in off) else "it gives other numbers"
    except Exception as error:  # a compiler fails in ways of its own
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        warnings.warn(
            f"a chunk of the deep memory is not compiled on {device} ({problem}); torch's own "
            "operators serve, more slowly",
            stacklevel=2,
        )
    return not problem


def _example(device: torch.device) -> tuple[DeepChunk, Tensor, Tensor]:
    """2 rows, a chunk of 16 tokens, heads 16 wide, 32 features."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    k, v = normalize(normal(2, 16, 16), dim=-1), normal(2, 16, 16)
    rate, forget, momentum = (normal(2, 16) for _ in range(3))
    gates = Gates(rate.sigmoid(), logsigmoid(4 - forget), logsigmoid(momentum), rate.sigmoid() / 16)
    part = DeepChunk(k, v, gates.rate, gates.inner_rate, decay_of(gates))
    return part, normal(2, 32, 32) / 4, normal(2, 64, 16) / 4
