"""The layer of a causal memory in one call of C or two, for compiled models on CPUs.

B batch, T tokens in whole chunks, I numbers a token, H heads, D head width, W = H D, J taps,
N = B H rows, O outputs. Queries, keys and values of all tokens are as large as everything else
together, and no cache of a CPU holds them: here a chunk's are made when the chunk's turn comes, in
both passes. So are, on the way forward, the projections that they come from; training alone writes
those down. Without gradients C computes gates and output, too. The folder c/ does it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...layers.compile_time import operator, own_memory
from ...layers.projection import projected_backward
from ..cpu.chunks import count_results, finer
from ..gates import TokenGates
from ..state import DeepState, Gradient, LinearState, State
from .calls import native_backward, native_forward, native_serves
from .layer import native_gates, native_output
from .library import UNIT

LONGEST = 64
"""Tokens of a chunk of the linear memory in training: the longer, the fewer states are kept."""
_NAMES = __name__.replace(".", "_")
"""Where operators live: projects of two names may meet in one process."""


class LayerWeights(NamedTuple):
    """The weights of a memory's layer beside its gates and its state."""

    matrix: Tensor
    """[3 W, I]: queries, keys and values."""
    taps: Tensor
    """[3 W, J]."""
    norm: Tensor
    """[W]."""
    out: Tensor
    """[O, W]."""


def whole_layer(
    x: Tensor,
    weights: LayerWeights,
    gates: TokenGates,
    output: Callable[[Tensor, Tensor], Tensor],
    state: State,
    chunk: int,
    gradient: Gradient,
) -> tuple[Tensor, State] | None:
    """Compute a whole memory layer by C: x [B, T, I] -> [B, T, O], and the state after it.

    None where it does not serve: in eager code, in other precisions, for T that is not whole
    chunks, and as `native_serves` says. `output` makes [B, T, O] of reads [N, T, D] and x.
    """
    states, deep = _states(state), isinstance(state, DeepState)
    parameters = [*weights, *gates.parameters()]
    training = torch.is_grad_enabled() and any(
        each.requires_grad for each in (x, *parameters, *states)
    )
    at_once = chunk if deep or (training and chunk <= LONGEST) else finer(chunk)
    if gradient != "exact" or not _serves(x, parameters, states, at_once):
        return None
    if not training:
        how = [gates.heads, chunk, at_once, gates.momentum, gates.forgetting]
        linear = [gates.linear.weight, gates.linear.bias]
        out, *found = _layer_operator(x, [*weights], linear, states, *how)
        return out, _state(found, len(states))
    found_gates = gates(x)
    inner = [found_gates.inner_rate / chunk] if deep else []
    tokens = [x, weights.matrix, weights.taps, *found_gates[:3], *inner]
    read, *found = _operator(tokens, states, gates.heads, at_once)
    return output(read, x), _state(found, len(states))


def _states(state: State) -> list[Tensor]:
    """The states as a layer's C has them: weights beside momentum, [N, D, 2 F] and [N, K, 2 V]."""
    count = 4 if isinstance(state, DeepState) else 2
    return [torch.cat((state[i], state[i + 1]), -1) for i in range(0, count, 2)]


def _state(found: Sequence[Tensor], count: int) -> State:

    weights = [x for both in found[:count] for x in both.chunk(2, -1)]
    return LinearState(*weights) if count == 1 else DeepState(*weights, *found[2:4])


def _turned(states: Sequence[Tensor]) -> list[Tensor]:

    return [x.mT for x in states]


def _serves(x: Tensor, parameters: Sequence[Tensor], states: Sequence[Tensor], chunk: int) -> bool:
    """Whether a whole layer can be one call of C: compiled, float32, sizes that C takes."""
    if not torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    (_, length, inputs), (matrix, taps, _, out) = x.shape, parameters[:4]
    single = all(each.dtype == torch.float32 for each in (x, *parameters))
    sizes = single and inputs % UNIT == len(matrix) // 3 % UNIT == len(out) % UNIT == 0
    fits = length > 0 and length % chunk == 0 and taps.shape[1] <= chunk
    return sizes and fits and native_serves([x], _turned(states), chunk)


def _forward(tokens: list[Tensor], states: list[Tensor], heads: int, chunk: int) -> list[Tensor]:
    read, *found = native_forward(
        tokens, _turned(states), [], None, chunk, training=True, keep=False, heads=heads
    )
    after = count_results(len(states)) - 1
    return own_memory([read, *_turned(found[:after]), *found[after:]], states)


def _backward(
    tokens: list[Tensor], saved: list[Tensor], grads: list[Tensor], heads: int
) -> list[Tensor]:
    by_read, *by_states = grads
    given = [by_read, *_turned(by_states)]
    found = native_backward(tokens, None, saved, given, heads)
    states = len(found) - len(tokens) + 1  # x and its matrix give way to what they project to
    return own_memory([*found[:-states], *_turned(found[-states:])], grads)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Sequence[Tensor]) -> None:
    tokens, states, ctx.heads, _ = inputs
    ctx.tokens, ctx.results = len(tokens), count_results(len(states))
    ctx.save_for_backward(*tokens, *output[ctx.results :])


def _back(ctx: Any, grads: Sequence[Tensor]) -> tuple[Any, ...]:
    saved = [*ctx.saved_tensors]
    tokens, saved = saved[: ctx.tokens], saved[ctx.tokens :]
    by_projected, *found = _operator_back(tokens, saved, [*grads[: ctx.results]], ctx.heads)
    by_x, by_matrix = projected_backward(tokens[0], tokens[1], by_projected)
    count = ctx.tokens - 2
    return [by_x, by_matrix, *found[:count]], found[count:], None, None


def _layer(
    x: Tensor,
    weights: list[Tensor],
    gates: list[Tensor],
    states: list[Tensor],
    heads: int,
    chunk: int,
    at_once: int,
    momentum: bool,
    forgetting: bool,
) -> list[Tensor]:
    matrix, taps, norm, out = weights
    rate, keep, eta, *inner = native_gates(
        x, gates[0], gates[1], heads, at_once, momentum=momentum, forgetting=forgetting
    )
    tokens = [x, matrix, taps, rate, keep, eta, *(each / chunk for each in inner)]
    read, *found = native_forward(
        tokens, _turned(states), [], None, at_once, training=False, keep=False, heads=heads,
        logs=False,
    )  # fmt: skip
    return own_memory([native_output(read, norm, out, heads, at_once), *_turned(found)], states)


# what the results look like follows from the same steps on tensors without numbers
_operator = operator(f"{_NAMES}::forward", _forward)
_operator_back = operator(f"{_NAMES}::backward", _backward)
_layer_operator = operator(f"{_NAMES}::layer", _layer)
torch.library.register_autograd(f"{_NAMES}::forward", _back, setup_context=_keep)
