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

from .cpu.operators import by_chunk, by_chunk_serves, equal_chunks, joined
from .deep_writes import (
    WriteChunk,
    deep_chunks,
    deep_together,
    exact_chunk,
    stale_chunk,
)
from .features import features, features_backward, silu_slope
from .gates import Gates, check_chunks, chunked, decay_of, parts
from .gpu.gpu_kernels import linear_kernels_serve
from .linear import apply, step_layer, transposed
from .written import DeepWrites, read_chunks, writes_of

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
) -> tuple[Tensor, DeepState, list[DeepWrites]]:
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
        keep: give what was written, too, for later reads; an empty list without.

    Returns:
        What the tokens read, [N, T, V], the state after the last one, from which `deep_step` goes
        on at position T (T may lie within a chunk), and what was written.

    Raises:
        ValueError: `chunk` is below 1; or `resets` come without `initial`, or with a number of
            columns other than T / chunk.
    """
    check_chunks(q.shape[1], chunk, initial, resets)
    if gradient == "exact" and by_chunk_serves(q):
        return _by_chunk(q, k, v, gates, state, chunk, initial, resets, keep)
    first, second = torch.cat(state[:2], 1), torch.cat(state[2:4], 1)
    frozen = state.frozen_first, state.frozen_second
    write = _exact_chunk(q) if gradient == "exact" else stale_chunk
    reads, kept = [q[:, :0] @ state.first @ state.second], []
    for part, size in parts(q.shape[1], chunk):
        some = Gates(*(chunked(gate[:, part], size) for gate in gates))
        some = some._replace(inner_rate=some.inner_rate / chunk)
        pairs = chunked(k[:, part], size), chunked(v[:, part], size)
        decay, lefts = decay_of(some), []
        for index, each in enumerate(deep_chunks(*pairs, some, decay), start=part.start // chunk):
            if resets is not None and initial is not None:
                reset = resets[:, index, None, None]
                first = torch.where(reset, torch.cat(initial[:2], 1), first)
                second = torch.where(reset, torch.cat(initial[2:4], 1), second)
            frozen = first.chunk(2, 1)[0], second.chunk(2, 1)[0]
            left, first, second = write(each, first, second)
            lefts.append(left)
        writes = deep_together(pairs[0], lefts, decay, exact=gradient == "exact")
        reads.append(read_chunks(chunked(q[:, part], size), writes).flatten(1, 2))
        if keep:
            kept.append(writes)
    weights, momentum = first.chunk(2, 1)
    kernel, kernel_momentum = second.chunk(2, 1)
    after = DeepState(weights, momentum, kernel, kernel_momentum, *frozen)
    return torch.cat(reads, 1), after, kept


def _exact_chunk(q: Tensor) -> WriteChunk:
    """`exact_chunk`, compiled on a GPU where kernels run."""
    if linear_kernels_serve(q):
        from .gpu.deep_compiled import chunk_agrees, compiled_chunk

        if chunk_agrees(q.device):
            return compiled_chunk
    return exact_chunk


def _by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    chunk: int,
    initial: DeepState | None,
    resets: Tensor | None,
    keep: bool,
) -> tuple[Tensor, DeepState, list[DeepWrites]]:
    starts = []
    if initial is not None and resets is not None:
        starts = [transposed(initial[:2]), transposed(initial[2:4])]
    states = [transposed(state[:2]), transposed(state[2:4])]
    frozen, begin = [*state[4:]], 0
    reads: list[Tensor] = []
    kept: list[DeepWrites] = []
    for length, tokens in equal_chunks((q, k, v, *gates[:3], gates.inner_rate / chunk), chunk):
        read, *found = by_chunk(tokens, states, starts, resets, length, keep=keep)
        part = slice(begin, begin := begin + read.shape[1])
        reads.append(read)
        states, frozen = found[:2], [x.mT for x in found[2:4]]
        if keep:
            first, second, keys, errors = found[4:]
            some = Gates(*(gate[:, part] for gate in gates))
            kept.append(DeepWrites(first.mT, writes_of(keys, errors, second, some, length)))
    weights = (x for both in states for x in both.mT.chunk(2, -1))
    return joined(reads, v), DeepState(*weights, *frozen), kept


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


def begins_chunk(position: Position, chunk: int) -> bool:
    """Whether weights freeze before the token there."""
    return position is not None and position % chunk == 0


def found_by(position: Position, state: DeepState, *, chunk: int) -> DeepState:
    """The state as the token at `position` finds it: where a chunk begins, weights freeze."""
    if begins_chunk(position, chunk):
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
