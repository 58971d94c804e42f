"""The memory one token at a time: what decoding does, and what the chunk forms are held against.

N rows (batch times heads), T tokens, D key width, V value width. The rules are those of linear.py
and deep.py.
"""

from torch import Tensor
from torch.nn.functional import silu

from .features import features, features_backward, silu_slope
from .gates import Gates
from .state import DeepState, Gradient, LinearState, Position


def linear_step(
    q: Tensor, k: Tensor, v: Tensor, gates: Gates, state: LinearState
) -> tuple[Tensor, LinearState]:
    """`linear_memory` for one token: q, k [N, D], v [N, V], gates [N] -> ([N, V], state)."""
    error = apply(k, state.weights) - v
    state = LinearState(*step_layer(*state, k, error, gates, gates.rate))
    return apply(q, state.weights), state


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


def read_deep(q: Tensor, state: DeepState, *, gradient: Gradient = "exact") -> Tensor:
    """Read a deep memory with queries [N, T, D], just after the state's last token: [N, T, V].

    "exact" reads with the features of the frozen W1, as the rest of that chunk does.
    """
    if gradient == "exact":
        return features(q @ state.frozen_first) @ state.second
    return silu(q @ state.first) @ state.second


def found_by(position: Position, state: DeepState, *, chunk: int) -> DeepState:
    """The state as the token at `position` finds it: where a chunk begins, weights freeze."""
    if begins_chunk(position, chunk):
        return state._replace(frozen_first=state.first, frozen_second=state.second)
    return state


def begins_chunk(position: Position, chunk: int) -> bool:
    """Whether weights freeze before the token there."""
    return position is not None and position % chunk == 0


def freeze(state: DeepState) -> None:
    """Freeze a deep memory's weights in place, before the first token of a chunk."""
    state.frozen_first.copy_(state.first)
    state.frozen_second.copy_(state.second)


def step_layer(
    weights: Tensor, momentum: Tensor, inputs: Tensor, errors: Tensor, gates: Gates, rate: Tensor
) -> tuple[Tensor, Tensor]:
    """Step M, S [N, D, V] of a layer by one token: its input [N, D], output error [N, V]."""
    keep, eta = gates.log_keep.exp(), gates.log_momentum.exp()
    write = (rate[:, None] * inputs)[:, :, None] * errors[:, None]
    momentum = eta[:, None, None] * momentum - write
    return keep[:, None, None] * weights + momentum, momentum


def apply(x: Tensor, weights: Tensor) -> Tensor:
    """Apply each row's own memory weights [N, D, V] to x [N, D]: [N, V]."""
    return (x[:, None] @ weights)[:, 0]
