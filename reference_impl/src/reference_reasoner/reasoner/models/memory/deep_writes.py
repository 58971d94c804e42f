"""What one chunk of the deep memory writes, in both forms; see memory_deep.py.

N rows (batch times heads), G chunks of C tokens, D key width, F features, V value width. Nothing
is read here: reads need no loop over chunks (written_memory.py).
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from .features import features, features_backward, silu_slope
from .gates import Decay, Gates
from .linear import exact_system, write_layer
from .sequential import solve
from .written import DeepWrites, shared


class DeepChunk(NamedTuple):
    """One chunk's pairs and gates, [N, C, ...]."""

    k: Tensor
    v: Tensor
    rate: Tensor
    inner_rate: Tensor
    """Divided by the length of a whole chunk, in a shorter last chunk too: a token's write does
    not depend on how many come after it."""
    decay: Decay


class Left(NamedTuple):
    """What a chunk began with and what it wrote, [N, ...]."""

    first: Tensor
    """[W1; S1] at its start."""
    second: Tensor
    """[W2; S2] at its start."""
    first_errors: Tensor
    keys: Tensor
    errors: Tensor


WriteChunk = Callable[[DeepChunk, Tensor, Tensor], tuple[Left, Tensor, Tensor]]
"""(chunk, [W1; S1], [W2; S2]) -> what it leaves, and both after it."""


def deep_chunks(k: Tensor, v: Tensor, gates: Gates, decay: Decay) -> Iterator[DeepChunk]:
    """One chunk of [N, G, C, ...] after another."""
    # unlike indexing, unbind fills no tensor of zeros per chunk on the way back
    given = (x.unbind(1) for x in (k, v, gates.rate, gates.inner_rate, *decay))
    for k_, v_, rate, inner_rate, *products in zip(*given, strict=True):
        yield DeepChunk(k_, v_, rate, inner_rate, Decay(*products))


def deep_together(k: Tensor, lefts: list[Left], decay: Decay, *, exact: bool) -> DeepWrites:
    """For reads; k [N, G, C, D]."""
    first, second, first_errors, keys, errors = zip(*lefts, strict=True)
    stacked = torch.stack(keys, 1), torch.stack(errors, 1), torch.stack(second, 1)
    last = shared(*stacked, decay)
    if exact:
        return DeepWrites(torch.stack([each.chunk(2, 1)[0] for each in first], 1), last)
    corrections, starts = torch.stack(first_errors, 1), torch.stack(first, 1)
    return DeepWrites(shared(k, corrections, starts, decay), last)


def asked(part: DeepChunk, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of an exact chunk: z, the keys for the second layer, and the system of their errors."""
    z = part.k @ first.chunk(2, 1)[0]
    keys = features(z)
    return z, keys, *exact_system(keys, part.v, part.decay, second)


def told(
    part: DeepChunk, first: Tensor, second: Tensor, z: Tensor, keys: Tensor, errors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of an exact chunk: the first layer's errors, and [W1; S1] and [W2; S2] after the chunk."""
    first_errors = features_backward(z, errors @ second.chunk(2, 1)[0].mT)
    first = write_layer(part.k, first_errors, part.decay, part.inner_rate, first)
    return first_errors, first, write_layer(keys, errors, part.decay, part.rate, second)


def exact_chunk(
    part: DeepChunk,
    first: Tensor,
    second: Tensor,
    *,
    asked: Callable[..., Any] = asked,
    told: Callable[..., Any] = told,
) -> tuple[Left, Tensor, Tensor]:
    """What it leaves, and [W1; S1] and [W2; S2] after the chunk; `asked` and `told` as above."""
    z, keys, lower, right = asked(part, first, second)
    errors = solve(lower, right)
    first_errors, *after = told(part, first, second, z, keys, errors)
    return Left(first, second, first_errors, keys, errors), *after


def stale_chunk(part: DeepChunk, first: Tensor, second: Tensor) -> tuple[Left, Tensor, Tensor]:
    """As `exact_chunk`; what is read of it is the dual form, one layer in the other."""
    frozen_first, frozen_second = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
    z = part.k @ frozen_first
    keys = silu(z)
    errors = keys @ frozen_second - part.v
    first_errors = errors @ frozen_second.mT * silu_slope(z)
    left = Left(first, second, first_errors, keys, errors)
    first = write_layer(part.k, first_errors, part.decay, part.rate, first)
    return left, first, write_layer(keys, errors, part.decay, part.rate, second)
