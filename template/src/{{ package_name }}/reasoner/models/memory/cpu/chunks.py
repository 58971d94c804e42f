"""The exact memories, one chunk after another, with their gradients written out, for CPUs.

The backward pass is a recurrence of its own, from the last chunk to the first; what a chunk does
stands in linear_chunk.py and deep_chunk.py, and what autograd and torch.compile see of it
in chunk_operator.py. N rows, T tokens that are whole chunks of C; D, F, V key, feature and value
width. A state is [N, 2 V, D], M and S transposed, one above the other; a deep memory has two,
[N, 2 F, D] and [N, 2 V, F]. Each of G chunks has its column of `resets`, if there are any.

What chunks wrote, where it is kept for later reads, is what each began with, [N, G, ...], and what
its tokens wrote, [N, T, ...]: the states [N, G, 2 V, D] and the errors; of a deep memory W1
[N, G, F, D] and W2's states [N, G, 2 V, F], and the keys' features and the errors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .deep_chunk import (
    SAVED,
    DeepKept,
    Written,
    deep_chunk_backward,
    deep_chunk_forward,
)
from .gate_products import Spread, spread_backward, spread_of
from .linear_chunk import Kept, chunk_backward, chunk_forward

FINE = 32
"""Tokens of a chunk of the linear memory: the work within chunks grows with their length."""


class Tokens(NamedTuple):
    """The inputs of all tokens."""

    q: Tensor
    """[N, T, D]."""
    k: Tensor
    """[N, T, D]."""
    v: Tensor
    """[N, T, V]."""
    rate: Tensor
    """[N, T] theta, and so the rest."""
    log_keep: Tensor
    log_momentum: Tensor

    def pairs(self, chunk: int) -> list[Tensor]:
        """Keys and below them queries of each chunk, [N, 2 C, D]."""
        halves = zip(torch.split(self.k, chunk, 1), torch.split(self.q, chunk, 1), strict=True)
        return [torch.cat(half, 1) for half in halves]


def linear_forward(
    tokens: Tokens,
    state: Tensor,
    initial: Tensor | None,
    resets: Tensor | None,
    chunk: int,
    *,
    training: bool,
    keep: bool,
) -> list[Tensor]:
    """Forward pass of the linear memory, chunk after chunk: reads, state, what was written.

    The rest is what `linear_backward` needs.
    """
    logs = torch.stack([tokens.log_keep, tokens.log_momentum])
    spread, gates = spread_of(logs, chunk)
    split = (torch.split(x, chunk, 1) for x in (tokens.v, tokens.rate))
    reads, kept = [], list[Kept]()
    parts = zip(tokens.pairs(chunk), *split, spread.chunks(), strict=True)
    for index, (pair, values, rates, each) in enumerate(parts):
        if resets is not None and initial is not None:
            state = torch.where(resets[:, index, None, None], initial, state)
        read, state, some = chunk_forward(pair, values, rates, each, state)
        reads.append(read)
        if training or keep:
            kept.append(some)
    written = _together([([x.start], [x.errors]) for x in kept]) if keep else []
    saved = [logs, gates, *spread, *(x for some in kept for x in some)] if training else []
    return [torch.cat(reads, 1), state, *written, *saved]


def linear_backward(
    rate: Tensor, resets: Tensor | None, saved: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """The gradients of `Tokens`, of the state, and, with resets, of the initial one.

    From those of what `linear_forward` gave, but for what it gave for training.
    """
    grad, grad_state, *written = grads
    logs, gates, *flat = saved
    spread, kept, chunk = Spread(*flat[:4]), flat[4:], gates.shape[-1]
    parts = zip(
        torch.split(rate, chunk, 1), spread.chunks(), torch.split(grad, chunk, 1), strict=True
    )
    founds = []
    grad_initial = torch.zeros_like(grad_state)
    for index, (rates, each, some) in reversed([*enumerate(parts)]):
        share = Kept(*_share(kept, index, len(Kept._fields)))
        starts, of_tokens = _grads_of(written, index, chunk)
        found = chunk_backward(rates, each, share, some, grad_state, *of_tokens)
        founds.append(found)
        grad_state = sum(starts, start=found.start)
        if resets is not None:
            reset = resets[:, index, None, None]
            grad_initial += grad_state * reset
            grad_state = grad_state * ~reset
    founds.reverse()
    by_token = zip(*((f.v, f.rate) for f in founds), strict=True)
    grad_v, grad_rate = (torch.cat(x, 1) for x in by_token)
    by_gates = spread_backward(logs, spread, gates, Spread.of(f.spread for f in founds))
    initial = [] if resets is None else [grad_initial]
    return [*_apart([f.pair for f in founds]), grad_v, grad_rate, *by_gates, grad_state, *initial]


def deep_forward(
    tokens: Tokens,
    inner_rate: Tensor,
    states: tuple[Tensor, Tensor],
    initial: tuple[Tensor, Tensor] | None,
    resets: Tensor | None,
    chunk: int,
    *,
    training: bool,
    keep: bool,
) -> list[Tensor]:
    """Forward pass of the deep memory, chunk after chunk: reads, states, the last start.

    Those are transposed, [N, F, D] and [N, V, F]; the rest is, with `keep`, what was written and,
    for training, what `deep_backward` needs.
    """
    logs = torch.stack([tokens.log_keep, tokens.log_momentum])
    spread, gates = spread_of(logs, chunk)
    split = (torch.split(x, chunk, 1) for x in (tokens.v, tokens.rate, inner_rate))
    reads, kept, starts = [], list[DeepKept](), states
    parts = zip(tokens.pairs(chunk), *split, spread.chunks(), strict=True)
    for index, (pair, values, rates, inner_rates, each) in enumerate(parts):
        starts = states
        if resets is not None and initial is not None:
            reset = resets[:, index, None, None]
            first, second = zip(initial, states, strict=True)
            starts = torch.where(reset, *first), torch.where(reset, *second)
        read, *after, some = deep_chunk_forward(pair, values, (rates, inner_rates), each, *starts)
        states = after[0], after[1]
        reads.append(read)
        if training or keep:
            kept.append(some)
    saved = [logs, gates, *spread, *(x for some in kept for x in some.flat())] if training else []
    frozen = (x.chunk(2, 1)[0].clone() for x in starts)
    written = _together([some.written(chunk) for some in kept]) if keep else []
    return [torch.cat(reads, 1), *states, *frozen, *written, *saved]


def deep_backward(
    rates: tuple[Tensor, Tensor],
    resets: Tensor | None,
    saved: Sequence[Tensor],
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """The gradients of `Tokens`, inner rate, both states and, with resets, both initial ones.

    From those of what `deep_forward` gave, but for what it gave for training.
    """
    grad, first, second, *others = grads
    frozen, written = others[:2], others[2:]
    logs, gates, *flat = saved
    spread, kept, chunk = Spread(*flat[:4]), flat[4:], gates.shape[-1]
    split = (torch.split(x, chunk, 1) for x in (*rates, grad))
    parts = [*enumerate(zip(*split, spread.chunks(), strict=True))]
    founds = []
    initial = [] if resets is None else [torch.zeros_like(x) for x in (first, second)]
    for index, (outer, inner, some, each) in reversed(parts):
        share = DeepKept.of(_share(kept, index, SAVED))
        starts, of_tokens = _grads_of(written, index, chunk)
        found = deep_chunk_backward((outer, inner), each, share, some, first, second, of_tokens)
        founds.append(found)
        first, second = found.first, found.second
        for state, more in zip((first.chunk(2, 1)[0], second), starts, strict=False):
            state.add_(more)
        if len(founds) == 1:
            for state, last in zip((first, second), frozen, strict=True):
                state.chunk(2, 1)[0].add_(last)
        if resets is not None:
            reset = resets[:, index, None, None]
            initial = [x + y * reset for x, y in zip(initial, (first, second), strict=True)]
            first, second = first * ~reset, second * ~reset
    founds.reverse()
    by_token = zip(*((f.v, f.rate, f.inner_rate) for f in founds), strict=True)
    grad_v, by_rate, by_inner = (torch.cat(x, 1) for x in by_token)
    by_gates = spread_backward(logs, spread, gates, Spread.of(f.spread for f in founds))
    some = [grad_v, by_rate, *by_gates, by_inner, first, second]
    return [*_apart([f.pair for f in founds]), *some, *initial]


def _apart(pairs: list[Tensor]) -> list[Tensor]:
    """What belongs to the queries and what to the keys, [N, T, D] each, of [N, 2 C, D] each."""
    keys, queries = zip(*(pair.chunk(2, 1) for pair in pairs), strict=True)
    return [torch.cat(queries, 1), torch.cat(keys, 1)]


def _share(flat: Sequence[Tensor], index: int, each: int) -> Sequence[Tensor]:
    """What the `index`-th chunk put into the list."""
    return flat[index * each : (index + 1) * each]


def _together(written: list[Written]) -> list[Tensor]:
    """What chunks began with, [N, G, ...], and what their tokens wrote, [N, T, ...]."""
    starts, tokens = ([each[kind] for each in written] for kind in (0, 1))
    return [
        *(torch.stack(each, 1) for each in zip(*starts, strict=True)),
        *(torch.cat(each, 1) for each in zip(*tokens, strict=True)),
    ]


def _grads_of(written: Sequence[Tensor], index: int, chunk: int) -> Written:
    """The share of the `index`-th chunk in gradients of what `_together` gave."""
    half, part = len(written) // 2, slice(index * chunk, (index + 1) * chunk)
    return [x[:, index] for x in written[:half]], [x[:, part] for x in written[half:]]


def finer(chunk: int) -> int:
    """The chunks that are computed at once instead, where that changes the speed alone."""
    return chunk if chunk % FINE else FINE


def count_results(states: int, keep: bool = False) -> int:
    """Results before those that the backward pass needs: reads, and of as many states."""
    written = 2 * states * keep
    return written + (2 if states == 1 else 5)
