"""A memory that is a network of two layers, written token by token and computed in chunks.

N rows (batch times heads), T tokens, C tokens of a chunk, D key width, F features, V value width.
phi is SiLU: smooth, so that gradients of gradients exist, and phi(0) = 0, so that a key of zeros
writes nothing. n(x) = x / sqrt(|x|^2 + 1e-6). Gates and momentum are those of gates.py.

"exact" (ours): M(x) = n(phi(x W1)) W2. W1 stands still within a chunk; in the features that it
makes, W2 is a linear memory, written exactly (linear.py). W1 follows the gradient of each
token's exact error, taken through W1 and W2 of the chunk's start, with a step of inner_rate / C;
the new W1 serves from the next chunk on. |n(..)| <= 1 keeps W2 stable for theta <= 1.

"stale" (Titans, section 3.2, eq. 16-18): M(x) = phi(x W1) W2 without n, all gradients taken at
the chunk's start, both layers written with theta, read with each token's own weights. As
published; with long chunks and like keys it diverges unless theta is about 1 / C.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from .features import features, features_backward, silu_slope
from .gates import Decay, Gates, check_chunks, chunked, decay_of, parts
from .linear import exact_system, write_layer
from .solve import Substitution, solve, substitution
from .state import DeepState, Gradient
from .written import DeepWrites, read_chunks, shared


def deep_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    *,
    chunk: int,
    gradient: Gradient = "exact",
    initial: DeepState | None = None,
    resets: Tensor | None = None,
    keep: bool = False,
    write: "WriteChunk | None" = None,
) -> tuple[Tensor, DeepState, list[DeepWrites]]:
    """Write each token into a deep memory, then read it. The first token begins a chunk.

    Args:
        q: queries [N, T, D], float32 or float64 like everything else here.
        k: keys [N, T, D], of length at most 1.
        v: values [N, T, V].
        gates: of each token, [N, T].
        state: what the memory holds before the first token; its frozen weights are not used.
        chunk: tokens for which the frozen weights serve. The result depends on it.
        gradient: "exact" or "stale", see the top of this file.
        initial: what a reset sets the state to.
        resets: bool [N, T / chunk]; True sets the row's state to `initial` before that chunk.
        keep: give what was written, too, for later reads; an empty list without.
        write: what writes a chunk; by default `exact_chunk` or `stale_chunk`.

    Returns:
        What the tokens read, [N, T, V], the state after the last one, from which `deep_step` goes
        on at position T (T may lie within a chunk), and what was written.

    Raises:
        ValueError: `chunk` is below 1; or `resets` come without `initial`, or with a number of
            columns other than T / chunk.
    """
    check_chunks(q.shape[1], chunk, initial, resets)
    first, second = torch.cat(state[:2], 1), torch.cat(state[2:4], 1)
    frozen = state.frozen_first, state.frozen_second
    write = write or (exact_chunk if gradient == "exact" else stale_chunk)
    reads, kept = [q[:, :0] @ state.first @ state.second], []
    for part, size in parts(q.shape[1], chunk):
        some = Gates(*(chunked(gate[:, part], size) for gate in gates))
        some = some._replace(inner_rate=some.inner_rate / chunk)
        pairs = chunked(k[:, part], size), chunked(v[:, part], size)
        decay, wrote = decay_of(some), []
        for index, each in enumerate(deep_chunks(*pairs, some, decay), start=part.start // chunk):
            if resets is not None and initial is not None:
                reset = resets[:, index, None, None]
                first = torch.where(reset, torch.cat(initial[:2], 1), first)
                second = torch.where(reset, torch.cat(initial[2:4], 1), second)
            frozen = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
            one, first, second = write(each, first, second)
            wrote.append(one)
        writes = deep_together(pairs[0], wrote, decay, exact=gradient == "exact")
        reads.append(read_chunks(chunked(q[:, part], size), writes).flatten(1, 2))
        if keep:
            kept.append(writes)
    weights, momentum = first.chunk(2, 1)
    kernel, kernel_momentum = second.chunk(2, 1)
    after = DeepState(weights, momentum, kernel, kernel_momentum, *frozen)
    return torch.cat(reads, 1), after, kept


class DeepChunk(NamedTuple):
    """The keys, values and gates of one chunk of a deep memory, [N, C, ...]."""

    k: Tensor
    v: Tensor
    rate: Tensor
    inner_rate: Tensor
    """Divided by the length of a whole chunk, in a shorter last chunk too: a token's write does
    not depend on how many come after it."""
    decay: Decay


class ChunkWrites(NamedTuple):
    """What a deep memory's chunk began with and what its tokens wrote, [N, ...]."""

    first: Tensor
    """[W1; S1] at its start."""
    second: Tensor
    """[W2; S2] at its start."""
    first_errors: Tensor
    keys: Tensor
    errors: Tensor


WriteChunk = Callable[[DeepChunk, Tensor, Tensor], tuple[ChunkWrites, Tensor, Tensor]]
"""(chunk, [W1; S1], [W2; S2]) -> what it leaves, and both after it."""


def deep_chunks(k: Tensor, v: Tensor, gates: Gates, decay: Decay) -> Iterator[DeepChunk]:
    """Each chunk of a deep memory's keys, values and gates [N, G, C, ...], one after another."""
    # unlike indexing, unbind fills no tensor of zeros per chunk on the way back
    given = (x.unbind(1) for x in (k, v, gates.rate, gates.inner_rate, *decay))
    for k_, v_, rate, inner_rate, *products in zip(*given, strict=True):
        yield DeepChunk(k_, v_, rate, inner_rate, Decay(*products))


def deep_together(k: Tensor, wrote: list[ChunkWrites], decay: Decay, *, exact: bool) -> DeepWrites:
    """Join what all chunks of a deep memory wrote, for reads; keys k [N, G, C, D]."""
    first, second, first_errors, keys, errors = zip(*wrote, strict=True)
    stacked = torch.stack(keys, 1), torch.stack(errors, 1), torch.stack(second, 1)
    last = shared(*stacked, decay)
    if exact:
        return DeepWrites(torch.stack([each.chunk(2, 1)[0] for each in first], 1), last)
    corrections, starts = torch.stack(first_errors, 1), torch.stack(first, 1)
    return DeepWrites(shared(k, corrections, starts, decay), last)


def error_system(
    part: DeepChunk, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The linear system of an exact chunk's errors: z, keys of the second layer, L and b."""
    z = part.k @ first.chunk(2, 1)[0]
    keys = features(z)
    return z, keys, *exact_system(keys, part.v, part.decay, second)


def write_layers(
    part: DeepChunk, first: Tensor, second: Tensor, z: Tensor, keys: Tensor, errors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Write an exact chunk into both layers: W1's errors, [W1; S1] and [W2; S2] after it."""
    first_errors = features_backward(z, errors @ second.chunk(2, 1)[0].mT)
    first = write_layer(part.k, first_errors, part.decay, part.inner_rate, first)
    return first_errors, first, write_layer(keys, errors, part.decay, part.rate, second)


def exact_chunk(
    part: DeepChunk,
    first: Tensor,
    second: Tensor,
    *,
    system: Callable[..., Any] = error_system,
    write: Callable[..., Any] = write_layers,
    substitute: Substitution = substitution,
) -> tuple[ChunkWrites, Tensor, Tensor]:
    """Write one chunk of the exact deep memory: what it wrote, [W1; S1] and [W2; S2] after it.

    `system` and `write` do what comes before and after the solve for its errors.
    """
    z, keys, lower, right = system(part, first, second)
    errors = solve(lower, right, substitute)
    first_errors, *after = write(part, first, second, z, keys, errors)
    return ChunkWrites(first, second, first_errors, keys, errors), *after


def stale_chunk(
    part: DeepChunk, first: Tensor, second: Tensor
) -> tuple[ChunkWrites, Tensor, Tensor]:
    """Write one chunk of the stale deep memory; its reads are the dual form, layer in layer."""
    frozen_first, frozen_second = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
    z = part.k @ frozen_first
    keys = silu(z)
    errors = keys @ frozen_second - part.v
    first_errors = errors @ frozen_second.mT * silu_slope(z)
    wrote = ChunkWrites(first, second, first_errors, keys, errors)
    first = write_layer(part.k, first_errors, part.decay, part.rate, first)
    return wrote, first, write_layer(keys, errors, part.decay, part.rate, second)
