"""A memory that is written with all tokens at once and in no order, for grids.

N rows (batch times heads), T tokens, D key width, F features, V value width. With gates pooled
over the tokens, one inner step of gradient descent with momentum on the mean of
1/2 ||M(k_t) - v_t||^2 is

    E = H M - V,    S = eta S - theta H^T E / T,    M = (1 - alpha) M + S

and every token then reads the final M. Ours; Titans (eq. 13 and 14) with the whole grid as one
token. It is equivariant under permutations of the tokens. Keys of length at most 1 give
||H^T H / T|| <= 1, hence stable steps for theta <= 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .features import features, features_backward
from .gates import Gates
from .sequential import read_deep
from .state import DeepState, LinearState, State


class _Pooled(NamedTuple):
    """Pooled gates of a set, [N, 1, 1], step sizes divided by the number of tokens."""

    keep: Tensor
    momentum: Tensor
    rate: Tensor
    inner_rate: Tensor


def set_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: State,
    *,
    steps: int = 1,
    mask: Tensor | None = None,
) -> tuple[Tensor, State]:
    """Write a set of tokens at once, in `steps` inner steps, then let all of them read.

    The kind of state decides the kind of memory. A deep one is M(x) = n(phi(x W1)) W2 as in
    deep.py: W2 learns in the features of the W1 that it began with, while W1 takes its own
    steps with inner_rate, by its gradient at that W1 and the W2 of the step. The read uses both
    final layers, which are also the returned state's frozen ones. With many steps W1 moves away
    from the features that W2 was fitted to; one or two steps are meant.

    Args:
        q: queries [N, T, D], float32 or float64 like everything else here.
        k: keys [N, T, D], of length at most 1.
        v: values [N, T, V].
        gates: of each token, [N, T]; their means (of the probabilities, not the logarithms) count.
        state: what the memory holds before.
        steps: inner steps.
        mask: bool [N, T], True for tokens that are written; None for all. All of them read.

    Returns:
        What the tokens read, [N, T, V], and the state after.

    Raises:
        ValueError: `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    pooled = _pool(gates, mask)
    if mask is not None:
        # a key of zeros has features of zeros: with its value gone too, it writes nothing
        k, v = (x.masked_fill(~mask[..., None], 0) for x in (k, v))
    if isinstance(state, DeepState):
        after = _write_deep(k, v, pooled, state, steps)
        return read_deep(q, after), after
    linear = _write_linear(k, v, pooled, state, steps)
    return q @ linear.weights, linear


def _write_linear(
    inputs: Tensor, v: Tensor, pooled: _Pooled, state: LinearState, steps: int
) -> LinearState:
    weights, momentum = state
    for _ in range(steps):
        errors = inputs @ weights - v
        momentum = pooled.momentum * momentum - pooled.rate * (inputs.mT @ errors)
        weights = pooled.keep * weights + momentum
    return LinearState(weights, momentum)


def _write_deep(k: Tensor, v: Tensor, pooled: _Pooled, state: DeepState, steps: int) -> DeepState:
    z = k @ state.first
    inputs = features(z)
    first, first_momentum = state.first, state.first_momentum
    second = LinearState(state.second, state.second_momentum)
    for _ in range(steps):
        back = (inputs @ second.weights - v) @ second.weights.mT
        grad = k.mT @ features_backward(z, back)
        first_momentum = pooled.momentum * first_momentum - pooled.inner_rate * grad
        first = pooled.keep * first + first_momentum
        second = _write_linear(inputs, v, pooled, second, 1)
    return DeepState(first, first_momentum, *second, first, second.weights)


def _pool(gates: Gates, mask: Tensor | None) -> _Pooled:
    """Pool gates over the set of tokens written; where there is none, the weights stay."""
    shares = torch.stack(
        [-gates.log_keep.expm1(), gates.log_momentum.exp(), gates.rate, gates.inner_rate]
    )
    count: Tensor | int
    if mask is None:
        count = max(1, shares.shape[-1])
    else:
        count = mask.sum(-1).clamp(min=1).to(shares.dtype)
        shares = shares.masked_fill(~mask, 0)
    forget, momentum, rate, inner_rate = (shares.sum(-1) / count).unbind(0)
    one = _Pooled(1 - forget, momentum, rate / count, inner_rate / count)
    return _Pooled(*(each[:, None, None] for each in one))
