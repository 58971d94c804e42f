"""A causal memory from projections to reads in one call of C, for compiled models on CPUs.

B batch, T tokens in whole chunks, H heads, D head width, W = H D, J taps, N = B H rows. Queries,
keys and values of all tokens are as large as everything else together, and no cache of a CPU holds
them: here a chunk's are made when the chunk's turn comes, in both passes. native/memory.c does it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .memory_deep import DeepState, Gradient
from .memory_gates import Gates
from .memory_linear import LinearState, transposed
from .memory_native import native_backward, native_forward, native_serves
from .memory_operators import finer, own

LONGEST = 64
"""Tokens of a chunk of the linear memory in training: the longer, the fewer states are kept."""
_NAMES = __name__.replace(".", "_")
"""Where operators live: projects of two names may meet in one process."""


def fused_memory(
    projected: Tensor,
    taps: Tensor,
    heads: int,
    gates: Gates,
    state: LinearState | DeepState,
    chunk: int,
    gradient: Gradient,
) -> tuple[Tensor, LinearState | DeepState] | None:
    """Projections [B, T, 3 W], taps [3 W, J], gates [N, T] -> reads [N, T, D], the state after.

    None where it does not serve: in eager code, for T that is not whole chunks, and as
    `native_serves` says.
    """
    if not torch.compiler.is_compiling() or gradient != "exact" or taps.dtype != torch.float32:
        return None
    tokens, deep = [projected, taps, *gates[:3]], isinstance(state, DeepState)
    states = [transposed((state[i], state[i + 1])) for i in range(0, 4 if deep else 2, 2)]
    if isinstance(state, DeepState):
        tokens.append(gates.inner_rate / chunk)
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (*tokens, *states))
    if not deep and not (training and chunk <= LONGEST):
        chunk = finer(chunk)
    length = projected.shape[1]
    fits = length > 0 and length % chunk == 0 and taps.shape[1] <= chunk
    if not (fits and native_serves(tokens, states, chunk)):
        return None
    read, *found = _operator(tokens, states, heads, chunk, training)
    weights = [x for both in found[: len(states)] for x in both.mT.chunk(2, -1)]
    if not deep:
        return read, LinearState(*weights)
    return read, DeepState(*weights, *(x.mT for x in found[2:4]))


def _forward(
    tokens: list[Tensor], states: list[Tensor], heads: int, chunk: int, training: bool
) -> list[Tensor]:
    found = native_forward(
        tokens, states, [], None, chunk, training=training, keep=False, heads=heads
    )
    return own(found, states)


def _backward(
    tokens: list[Tensor], saved: list[Tensor], grads: list[Tensor], heads: int
) -> list[Tensor]:
    return own(native_backward(tokens, None, saved, grads, heads), grads)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    tokens, states, ctx.heads, _, _ = inputs
    ctx.tokens, ctx.results = len(tokens), 5 if len(states) == 2 else 2
    ctx.save_for_backward(*tokens, *output[ctx.results :])


def _back(ctx: Any, grads: Sequence[Tensor]) -> tuple[Any, ...]:
    saved = [*ctx.saved_tensors]
    tokens, saved = saved[: ctx.tokens], saved[ctx.tokens :]
    found = _operator_back(tokens, saved, [*grads[: ctx.results]], ctx.heads)
    return found[: ctx.tokens], found[ctx.tokens :], None, None, None


_operator = torch.library.custom_op(f"{_NAMES}::forward", _forward, mutates_args=())
_operator_back = torch.library.custom_op(f"{_NAMES}::backward", _backward, mutates_args=())
# what the results look like follows from the same steps on tensors without numbers
_operator.register_fake(_forward)
_operator_back.register_fake(_backward)
_operator.register_autograd(_back, setup_context=_keep)
