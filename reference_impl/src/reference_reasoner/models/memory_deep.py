"""A memory that is a network of two layers, written token by token and computed in chunks.

N rows (batch times heads), T tokens, C tokens of a chunk, D key width, F features, V value width.
phi is SiLU: smooth, so that gradients of gradients exist, and phi(0) = 0, so that a key of zeros
writes nothing. n(x) = x / sqrt(|x|^2 + 1e-6). Gates and momentum are those of memory_gates.py.

"exact" (ours): M(x) = n(phi(x W1)) W2. W1 stands still within a chunk; in the features that it
makes, W2 is a linear memory, written exactly (memory_linear.py). W1 follows the gradient of each
token's exact error, taken through W1 and W2 of the chunk's start, with a step of inner_rate / C;
the new W1 serves from the next chunk on. |n(..)| <= 1 keeps W2 stable for theta <= 1.

"stale" (Titans, section 3.2, eq. 16-18): M(x) = phi(x W1) W2 without n, all gradients taken at
the chunk's start, both layers written with theta, read with each token's own weights. As
published; with long chunks and like keys it diverges unless theta is about 1 / C.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from .memory_by_chunk import DeepByChunk, by_chunk_serves
from .memory_features import features, features_backward, silu_slope
from .memory_gates import Decay, Gates, check_chunks, chunked, decay_of
from .memory_linear import (
    apply,
    exact_errors,
    read_layer,
    step_layer,
    transposed,
    write_layer,
)

Gradient = Literal["exact", "stale"]
Position = int | None
"""A token's, from the start of the sequence (0); None where `freeze` has seen to chunks."""


class DeepState(NamedTuple):
    """What the memory holds after a token, and what the chunk that it is in began with."""

    first: Tensor
    """[N, D, F] W1."""
    first_momentum: Tensor
    """[N, D, F]."""
    second: Tensor
    """[N, F, V] W2."""
    second_momentum: Tensor
    """[N, F, V]."""
    frozen_first: Tensor
    """[N, D, F] W1 at the start of the last token's chunk."""
    frozen_second: Tensor
    """[N, F, V] W2 at the start of the last token's chunk."""


class _Chunk(NamedTuple):
    """One chunk's tokens and gates, [N, C, ...]."""

    q: Tensor
    k: Tensor
    v: Tensor
    rate: Tensor
    inner_rate: Tensor
    """Divided by the length of a whole chunk, in a shorter last chunk too: a token's write does
    not depend on how many come after it."""
    decay: Decay


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
) -> tuple[Tensor, DeepState]:
    """Write each token, then read it. The first token begins a chunk.

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

    Returns:
        What the tokens read, [N, T, V], and the state after the last one, from which `deep_step`
        goes on at position T (T may lie within a chunk).

    Raises:
        ValueError: `chunk` is below 1; or `resets` come without `initial`, or with a number of
            columns other than T / chunk.
    """
    check_chunks(q.shape[1], chunk, initial, resets)
    if gradient == "exact" and by_chunk_serves(q):
        return _by_chunk(q, k, v, gates, state, chunk, initial, resets)
    first, second = torch.cat(state[:2], 1), torch.cat(state[2:4], 1)
    frozen_first, frozen_second = state.frozen_first, state.frozen_second
    body = _exact_chunk if gradient == "exact" else _stale_chunk
    reads = [q[:, :0] @ state.first @ state.second]
    for index, part in enumerate(_chunks(q, k, v, gates, chunk)):
        if resets is not None and initial is not None:
            reset = resets[:, index, None, None]
            first = torch.where(reset, torch.cat(initial[:2], 1), first)
            second = torch.where(reset, torch.cat(initial[2:4], 1), second)
        frozen_first, frozen_second = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
        read, first, second = body(part, first, second)
        reads.append(read)
    weights, momentum = first.chunk(2, 1)
    kernel, kernel_momentum = second.chunk(2, 1)
    after = DeepState(weights, momentum, kernel, kernel_momentum, frozen_first, frozen_second)
    return torch.cat(reads, 1), after


def _by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    chunk: int,
    initial: DeepState | None,
    resets: Tensor | None,
) -> tuple[Tensor, DeepState]:
    starts: tuple[Tensor | None, Tensor | None] = None, None
    if initial is not None and resets is not None:
        starts = transposed(initial[:2]), transposed(initial[2:4])
    inner = gates.inner_rate / chunk
    read, first, second, *frozen = DeepByChunk.apply(  # type: ignore[no-untyped-call]
        q, k, v, *gates[:3], inner, transposed(state[:2]), transposed(state[2:4]),
        *starts, resets, chunk,
    )  # fmt: skip
    weights = (x for both in (first, second) for x in both.mT.chunk(2, -1))
    return read, DeepState(*weights, *(x.mT for x in frozen))


def deep_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    *,
    chunk: int,
    gradient: Gradient,
    position: Position,
) -> tuple[Tensor, DeepState]:
    """`deep_memory` for one token: q, k [N, D], v [N, V], gates [N] -> ([N, V], state).

    `position` counts the tokens since the start of the sequence: where it is a multiple of
    `chunk`, the running weights become the frozen ones first.
    """
    state = found_by(position, state, chunk=chunk)
    z = apply(k, state.frozen_first)
    if gradient == "exact":
        inputs = features(z)
        error = apply(inputs, state.second) - v
        back, rate = apply(error, state.frozen_second.mT), gates.inner_rate / chunk
        first_error = features_backward(z, back)
    else:
        inputs = silu(z)
        error = apply(inputs, state.frozen_second) - v
        back, rate = apply(error, state.frozen_second.mT), gates.rate
        first_error = back * silu_slope(z)
    first = step_layer(state.first, state.first_momentum, k, first_error, gates, rate)
    second = step_layer(state.second, state.second_momentum, inputs, error, gates, gates.rate)
    state = DeepState(*first, *second, state.frozen_first, state.frozen_second)
    return read_deep(q[:, None], state, gradient=gradient)[:, 0], state


def found_by(position: Position, state: DeepState, *, chunk: int) -> DeepState:
    """The state as the token at `position` finds it: where a chunk begins, weights freeze."""
    if position is not None and position % chunk == 0:
        return state._replace(frozen_first=state.first, frozen_second=state.second)
    return state


def freeze(state: DeepState) -> None:
    """In place, before the first token of a chunk, whose step then gets no position."""
    state.frozen_first.copy_(state.first)
    state.frozen_second.copy_(state.second)


def read_deep(q: Tensor, state: DeepState, *, gradient: Gradient = "exact") -> Tensor:
    """What queries [N, T, D] read, without a write, just after the state's last token: [N, T, V].

    "exact" reads with the features of the frozen W1, as the rest of that chunk does.
    """
    if gradient == "exact":
        return features(q @ state.frozen_first) @ state.second
    return silu(q @ state.first) @ state.second


def _chunks(q: Tensor, k: Tensor, v: Tensor, gates: Gates, chunk: int) -> list[_Chunk]:
    """All chunks in order, the last one maybe shorter; no tokens, no chunks."""
    tokens = q.shape[1]
    whole = tokens - tokens % chunk
    decays = []
    if whole:
        full = decay_of(Gates(*(chunked(gate[:, :whole], chunk) for gate in gates)))
        decays += [Decay(*each) for each in zip(*(x.unbind(1) for x in full), strict=True)]
    if whole < tokens:
        decays.append(decay_of(Gates(*(gate[:, whole:] for gate in gates))))
    inputs = (q, k, v, gates.rate, gates.inner_rate / chunk)
    # unlike indexing, split fills no tensor of zeros per chunk on the way back
    split = [torch.split(x, chunk, 1) for x in inputs]
    return [_Chunk(*each) for each in zip(*split, decays, strict=False)]


def _exact_chunk(part: _Chunk, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reads, and [W1; S1] and [W2; S2] after the chunk."""
    frozen_first, frozen_second = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
    z = part.k @ frozen_first
    keys, queries = features(z), features(part.q @ frozen_first)
    errors = exact_errors(keys, part.v, part.decay, second)
    read = read_layer(queries, keys, errors, part.decay, second)
    first_errors = features_backward(z, errors @ frozen_second.mT)
    first = write_layer(part.k, first_errors, part.decay, part.inner_rate, first)
    return read, first, write_layer(keys, errors, part.decay, part.rate, second)


def _stale_chunk(part: _Chunk, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reads, and [W1; S1] and [W2; S2] after the chunk: the dual form, one layer in the other."""
    frozen_first, frozen_second = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
    z = part.k @ frozen_first
    keys = silu(z)
    errors = keys @ frozen_second - part.v
    first_errors = errors @ frozen_second.mT * silu_slope(z)
    queries = silu(read_layer(part.q, part.k, first_errors, part.decay, first))
    read = read_layer(queries, keys, errors, part.decay, second)
    first = write_layer(part.k, first_errors, part.decay, part.rate, first)
    return read, first, write_layer(keys, errors, part.decay, part.rate, second)
