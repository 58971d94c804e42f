"""The memories of memory_by_chunk.py as autograd sees them, and as torch.compile does.

To both a whole pass is one operation, with another one on the way back. torch.compile then fuses
what stands around it: the chunks themselves would be thousands of small kernels to it, and
written for all chunks at once, as elsewhere, their tensors are larger than the caches of a CPU.
Under torch.compile, which needs the machine's compiler anyway, the chunks are memory_native.py's.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...layers.compile_time import operator
from ..native.calls import native_backward, native_forward, native_serves
from .by_chunk import (
    Tokens,
    deep_backward,
    deep_forward,
    linear_backward,
    linear_forward,
)

_NAMES = __name__.replace(".", "_")
"""Where operators live: projects of two names may meet in one process."""
FINE = 32
"""Tokens of a chunk of the linear memory: the work within chunks grows with their length."""


def by_chunk_serves(x: Tensor) -> bool:
    """Whether the chunks are computed here, one by one: on CPUs."""
    return x.device.type == "cpu"


def finer(chunk: int) -> int:
    """The chunks that are computed at once instead, where that changes the speed alone."""
    return chunk if chunk % FINE else FINE


def equal_chunks(tokens: Sequence[Tensor], chunk: int) -> Iterator[tuple[int, list[Tensor]]]:
    """(length of a chunk, inputs of all tokens of whole chunks); and those of a shorter last one.

    `tokens` are [N, T, ...]; whole, they are not cut, which would be copied on the way back.
    """
    length = tokens[0].shape[1]
    whole = length - length % chunk
    if whole == length > 0:
        yield chunk, [*tokens]
        return
    if whole:
        yield chunk, [x[:, :whole] for x in tokens]
    if whole < length:
        yield length - whole, [x[:, whole:] for x in tokens]


def joined(reads: Sequence[Tensor], v: Tensor) -> Tensor:
    """What all tokens read, [N, T, V]; without tokens as empty as the values."""
    if len(reads) == 1:
        return reads[0]
    return torch.cat([*reads], 1) if reads else torch.empty_like(v)


def by_chunk(
    tokens: list[Tensor],
    states: list[Tensor],
    initial: list[Tensor],
    resets: Tensor | None,
    chunk: int,
    *,
    keep: bool = False,
) -> list[Tensor]:
    """What the tokens read, and the states after them.

    Args:
        tokens: those of `Tokens`, whole chunks; and a deep memory's inner rate.
        states: the state, or both of a deep memory, of which the results hold both weights at
            the start of the last chunk, too.
        initial: what resets set the states to; none without resets.
        resets: bool, a column for each chunk.
        chunk: tokens that are computed together.
        keep: add what was written, see memory_by_chunk.py.
    """
    if torch.compiler.is_compiling():
        given = [*tokens, *states, *initial]
        training = torch.is_grad_enabled() and any(x.requires_grad for x in given)
        native = native_serves(tokens, states, chunk)
        found = _operator(tokens, states, initial, resets, chunk, keep, training, native)
        return found[: count_results(len(states), keep)]
    sizes = len(tokens), len(states)
    return [*_ByChunk.apply(resets, chunk, keep, sizes, *tokens, *states, *initial)]  # type: ignore[no-untyped-call]


def count_results(states: int, keep: bool = False) -> int:
    """Results before those that the backward pass needs: reads, and of as many states."""
    written = 2 * states * keep
    return written + (2 if states == 1 else 5)


def _forward(
    tokens: Sequence[Tensor],
    states: Sequence[Tensor],
    initial: Sequence[Tensor],
    resets: Tensor | None,
    chunk: int,
    keep: bool,
    training: bool,
) -> list[Tensor]:
    if len(states) == 1:
        start = initial[0] if initial else None
        return linear_forward(
            Tokens(*tokens), states[0], start, resets, chunk, training=training, keep=keep
        )
    *some, inner = tokens
    both, starts = (states[0], states[1]), (initial[0], initial[1]) if initial else None
    return deep_forward(
        Tokens(*some), inner, both, starts, resets, chunk, training=training, keep=keep
    )


def _backward(
    rates: Sequence[Tensor], resets: Tensor | None, saved: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    """Gradients of the tokens, the states and the initial ones, one after the other."""
    if len(rates) == 1:
        return linear_backward(rates[0], resets, saved, grads)
    return deep_backward((rates[0], rates[1]), resets, saved, grads)


class _ByChunk(torch.autograd.Function):
    """(resets, chunk, keep, (number of tokens' inputs, of states), *tokens, *states, *initial)."""

    @staticmethod
    def forward(
        ctx: Any,
        resets: Tensor | None,
        chunk: int,
        keep: bool,
        sizes: tuple[int, int],
        *given: Tensor,
    ) -> tuple[Tensor, ...]:
        """Chunk after chunk."""
        tokens, states, initial = _apart(given, sizes)
        found = _forward(tokens, states, initial, resets, chunk, keep, any(ctx.needs_input_grad))
        results = count_results(len(states), keep)
        ctx.rates = len(states)
        ctx.save_for_backward(resets, *_rates(tokens), *found[results:])
        return tuple(found[:results])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end to the start."""
        resets, *saved = ctx.saved_tensors
        found = _backward(saved[: ctx.rates], resets, saved[ctx.rates :], grads)
        return (None, None, None, None, *found)


def _rates(tokens: Sequence[Tensor]) -> Sequence[Tensor]:
    """theta, and a deep memory's inner rate."""
    return [tokens[3], *tokens[6:]]


def _apart(
    given: Sequence[Tensor], sizes: tuple[int, int]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    """Tokens, states and initial states, out of one list."""
    tokens, states = sizes
    return given[:tokens], given[tokens : tokens + states], given[tokens + states :]


def _both_forms(
    tokens: list[Tensor],
    states: list[Tensor],
    initial: list[Tensor],
    resets: Tensor | None,
    chunk: int,
    keep: bool,
    training: bool,
    native: bool,
) -> list[Tensor]:
    """`by_chunk`'s results, and, for training, what `_both_forms_back` needs."""
    if native:
        given = (tokens, states, initial, resets, chunk)
        return own(native_forward(*given, training=training, keep=keep), [*states, *initial])
    found = _forward(tokens, states, initial, resets, chunk, keep, training)
    return own(found, [*states, *initial])


def _both_forms_back(
    tokens: list[Tensor],
    resets: Tensor | None,
    saved: list[Tensor],
    grads: list[Tensor],
    native: bool,
) -> list[Tensor]:
    """The gradients of all that `_both_forms` was given, in one list."""
    if native:
        return own(native_backward(tokens, resets, saved, grads), grads)
    return own(_backward(tokens, resets, saved, grads), grads)


def own(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """As an operator's results have to be: row by row in memory that is no other tensor's, too."""
    # the size is asked for so that torch.compile need not know it
    return [
        x.clone(memory_format=torch.contiguous_format)
        if any(x is y for y in given) or x.untyped_storage().nbytes() != x.numel() * x.itemsize
        else x.contiguous()
        for x in results
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tokens, states, _, resets, _, keep, _, ctx.native = inputs
    ctx.sizes, ctx.results = (len(tokens), len(states)), count_results(len(states), keep)
    needed = tokens if ctx.native else _rates(tokens)
    ctx.needed = len(needed)
    ctx.save_for_backward(resets, *needed, *output[ctx.results :])


def _back(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    resets, *saved = ctx.saved_tensors
    needed, saved = saved[: ctx.needed], saved[ctx.needed :]
    found = _operator_back(needed, resets, saved, grads[: ctx.results], ctx.native)
    return (*(list(x) for x in _apart(found, ctx.sizes)), None, None, None, None, None)


# what the results look like follows from the same steps on tensors without numbers
_operator = operator(f"{_NAMES}::forward", _both_forms)
_operator_back = operator(f"{_NAMES}::backward", _both_forms_back)
torch.library.register_autograd(f"{_NAMES}::forward", _back, setup_context=_keep)
