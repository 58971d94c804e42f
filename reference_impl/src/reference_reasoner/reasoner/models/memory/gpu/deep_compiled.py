"""A chunk of the exact deep memory on a GPU, its products and what is around them compiled.

A chunk is 55 kernels that each wait for the one before; compiled it is about 15, with one more
between the halves, which solves for the errors (memory_sequential.py).
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from ...layers.twin_check import agrees, apart
from ..deep_writes import DeepChunk, Left, asked, exact_chunk, told
from ..gates import Gates, decay_of

_asked, _told = torch.compile(asked, dynamic=False), torch.compile(told, dynamic=False)


def compiled_chunk(part: DeepChunk, first: Tensor, second: Tensor) -> tuple[Left, Tensor, Tensor]:
    """`exact_chunk`."""
    return exact_chunk(part, first, second, asked=_asked, told=_told)


@functools.cache
def chunk_agrees(device: torch.device) -> bool:
    """Whether it gives what `exact_chunk` gives; where it does not, a warning says why."""
    return agrees(device, _errors, "a compiled chunk of the deep memory does not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    """Of both layers after a chunk."""
    given = _example(device)
    (_, *found), (_, *exact) = compiled_chunk(*given), exact_chunk(*given)
    for name, one, other in zip(("its first layer", "its second layer"), found, exact, strict=True):
        yield name, apart(one, other)


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
