"""A chunk of the exact deep memory on a GPU, its products and what is around them compiled.

A chunk is 55 kernels that each wait for the one before; compiled it is about 15, with one more
between the halves, which solves for the errors (solve.py).
"""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize

from ...layers.twin_check import agrees, apart
from ..deep import ChunkWrites, DeepChunk, error_system, exact_chunk, write_layers
from ..gates import Gates, decay_of
from ..solve import Substitution, substitution

_system = torch.compile(error_system, dynamic=False)
_write = torch.compile(write_layers, dynamic=False)


def compiled_chunk(
    part: DeepChunk, first: Tensor, second: Tensor, *, substitute: Substitution = substitution
) -> tuple[ChunkWrites, Tensor, Tensor]:
    """Write one chunk of the deep memory as `exact_chunk` does, its halves compiled."""
    return exact_chunk(part, first, second, system=_system, write=_write, substitute=substitute)


@functools.cache
def chunk_agrees(device: torch.device) -> bool:
    """Whether the compiled chunk of the deep memory gives the eager numbers; a warning if not."""
    return agrees(device, _errors, "a compiled chunk of the deep memory does not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    given = _example(device)
    (_, *found), (_, *exact) = compiled_chunk(*given), exact_chunk(*given)
    for name, one, other in zip(("its first layer", "its second layer"), found, exact, strict=True):
        yield name, apart(one, other)


def _example(device: torch.device) -> tuple[DeepChunk, Tensor, Tensor]:
    """An example of a deep memory's chunk: 2 rows, 16 tokens, heads 16 wide, 32 features."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    k, v = normalize(normal(2, 16, 16), dim=-1), normal(2, 16, 16)
    rate, forget, momentum = (normal(2, 16) for _ in range(3))
    gates = Gates(rate.sigmoid(), logsigmoid(4 - forget), logsigmoid(momentum), rate.sigmoid() / 16)
    part = DeepChunk(k, v, gates.rate, gates.inner_rate, decay_of(gates))
    return part, normal(2, 32, 32) / 4, normal(2, 64, 16) / 4
