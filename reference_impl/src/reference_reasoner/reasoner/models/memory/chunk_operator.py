"""The exact memories on CPUs as one operator, to autograd and to torch.compile: chunk after chunk.

To both a whole pass is one operation, with another one on the way back. torch.compile then fuses
what stands around it: the chunks themselves would be thousands of small kernels to it, and
written for all chunks at once, as elsewhere, their tensors are larger than the caches of a CPU.
In eager code the chunks are cpu/chunks.py's; under torch.compile, which needs the machine's
compiler anyway, those of native/calls.py where that serves.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from ..layers.compile_time import operator, own_memory
from .cpu.chunks import (
    Tokens,
    count_results,
    deep_backward,
    deep_forward,
    finer,
    linear_backward,
    linear_forward,
)
from .gates import Gates
from .native.calls import native_backward, native_forward, native_serves
from .state import DeepState, LinearState
from .written import DeepWrites, Writes, writes_of

_NAMES = __name__.replace(".", "_")
"""Where operators live: projects of two names may meet in one process."""


def by_chunk_serves(x: Tensor) -> bool:
    """Whether the operator over chunks computes a memory of x: on CPUs."""
    return x.device.type == "cpu"


def _equal_chunks(tokens: Sequence[Tensor], chunk: int) -> Iterator[tuple[int, list[Tensor]]]:
    """The chunk length and inputs of all whole chunks, then those of a shorter last one.

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


def _joined(reads: Sequence[Tensor], v: Tensor) -> Tensor:
    """Join what the chunks read into [N, T, V]; without tokens as empty as the values."""
    if len(reads) == 1:
        return reads[0]
    return torch.cat([*reads], 1) if reads else torch.empty_like(v)


def linear_by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: LinearState,
    *,
    chunk: int,
    initial: LinearState | None,
    resets: Tensor | None,
    keep: bool,
) -> tuple[Tensor, LinearState, list[Writes]]:
    """Compute `linear_memory` of tokens [N, T, ...] chunk after chunk, for CPUs."""
    size, starts = finer(chunk), []
    if initial is not None and resets is not None:
        starts = [_transposed(initial)]
        resets = pad(resets[..., None], (0, chunk // size - 1)).flatten(1)
    both, begin = _transposed(state), 0
    reads: list[Tensor] = []
    kept: list[Writes] = []
    for length, tokens in _equal_chunks((q, k, v, *gates[:3]), size):
        read, both, *written = by_chunk(tokens, [both], starts, resets, length, keep=keep)
        part = slice(begin, begin := begin + read.shape[1])
        reads.append(read)
        if written:
            some = Gates(*(gate[:, part] for gate in gates))
            kept.append(writes_of(tokens[1], written[1], written[0], some, length))
    return _joined(reads, v), LinearState(*both.mT.chunk(2, -1)), kept


def deep_by_chunk(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    *,
    chunk: int,
    initial: DeepState | None,
    resets: Tensor | None,
    keep: bool,
) -> tuple[Tensor, DeepState, list[DeepWrites]]:
    """Compute `deep_memory`, exact, of tokens [N, T, ...] chunk after chunk, for CPUs."""
    starts = []
    if initial is not None and resets is not None:
        starts = [_transposed(initial[:2]), _transposed(initial[2:4])]
    states = [_transposed(state[:2]), _transposed(state[2:4])]
    frozen, begin = [*state[4:]], 0
    reads: list[Tensor] = []
    kept: list[DeepWrites] = []
    for length, tokens in _equal_chunks((q, k, v, *gates[:3], gates.inner_rate / chunk), chunk):
        read, *found = by_chunk(tokens, states, starts, resets, length, keep=keep)
        part = slice(begin, begin := begin + read.shape[1])
        reads.append(read)
        states, frozen = found[:2], [x.mT for x in found[2:4]]
        if keep:
            first, second, keys, errors = found[4:]
            some = Gates(*(gate[:, part] for gate in gates))
            kept.append(DeepWrites(first.mT, writes_of(keys, errors, second, some, length)))
    weights = (x for both in states for x in both.mT.chunk(2, -1))
    return _joined(reads, v), DeepState(*weights, *frozen), kept


def _transposed(layer: tuple[Tensor, Tensor]) -> Tensor:
    """M and S [N, D, V] of a layer, transposed and one above the other, [N, 2 V, D]."""
    return torch.cat(layer, -1).mT.contiguous()


def by_chunk(
    tokens: list[Tensor],
    states: list[Tensor],
    initial: list[Tensor],
    resets: Tensor | None,
    chunk: int,
    *,
    keep: bool = False,
) -> list[Tensor]:
    """Compute a pass over whole chunks as one operator: what the tokens read, and the states after.

    Args:
        tokens: those of `Tokens`, whole chunks; and a deep memory's inner rate.
        states: the state, or both of a deep memory, of which the results hold both weights at
            the start of the last chunk, too.
        initial: what resets set the states to; none without resets.
        resets: bool, a column for each chunk.
        chunk: tokens that are computed together.
        keep: add what was written, see cpu/chunks.py.
    """
    if torch.compiler.is_compiling():
        given = [*tokens, *states, *initial]
        training = torch.is_grad_enabled() and any(x.requires_grad for x in given)
        native = native_serves(tokens, states, chunk)
        found = _operator(tokens, states, initial, resets, chunk, keep, training, native)
        return found[: count_results(len(states), keep)]
    sizes = len(tokens), len(states)
    return [*_ByChunk.apply(resets, chunk, keep, sizes, *tokens, *states, *initial)]  # type: ignore[no-untyped-call]


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
    """The torch form's gradients of tokens, states and initial states, one after the other."""
    if len(rates) == 1:
        return linear_backward(rates[0], resets, saved, grads)
    return deep_backward((rates[0], rates[1]), resets, saved, grads)


class _ByChunk(torch.autograd.Function):
    """The chunks to autograd in eager code: one operation, its gradient written out."""

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
    """The step sizes among the operator's inputs: theta, and a deep memory's inner rate."""
    return [tokens[3], *tokens[6:]]


def _apart(
    given: Sequence[Tensor], sizes: tuple[int, int]
) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
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
    """The operator's forward pass, by C or by torch, with what its backward pass needs."""
    if native:
        given = (tokens, states, initial, resets, chunk)
        return own_memory(native_forward(*given, training=training, keep=keep), [*states, *initial])
    found = _forward(tokens, states, initial, resets, chunk, keep, training)
    return own_memory(found, [*states, *initial])


def _both_forms_back(
    tokens: list[Tensor],
    resets: Tensor | None,
    saved: list[Tensor],
    grads: list[Tensor],
    native: bool,
) -> list[Tensor]:
    """The operator's backward pass, by C or by torch: gradients of all its inputs, in one list."""
    if native:
        return own_memory(native_backward(tokens, resets, saved, grads), grads)
    return own_memory(_backward(tokens, resets, saved, grads), grads)


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
