"""The linear memory without momentum as a gated delta rule, for which others have fast kernels.

N rows, T tokens, D key width, V value width. The rule (Yang et al. 2024, Gated Delta Networks)
forgets before it looks, the memory after it has looked:

    S_t = decay_t S_{t-1} + beta_t k_t^T (v_t - decay_t k_t S_{t-1}),    o_t = q_t S_t

With S_t = M_t / keep_t, keep = 1 - alpha, they are the same for decay_t = keep_{t-1} (1 for the
first token) and beta_t = theta_t / keep_t; what the memory reads is keep_t o_t.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize, pad

from ...layers.triton_support import FLA_IS_THERE, TILES
from ...layers.twin_check import agrees, apart
from ..gates import Gates
from ..linear import linear_memory
from ..sequential import linear_step
from ..state import LinearState
from .linear_launch import CHUNK, ROWS, WIDTH, kernels_may_serve, normal_numbers

Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""q, k [N, T, D], v [N, T, V], log of decay and beta [N, T], S_0 [N, D, V] -> o [N, T, V], S_T."""


def by_gated_delta(
    rule: Rule, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, log_keep: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute a linear memory without momentum by a gated delta `rule`: reads, and M at the end.

    M begins as `weights`; T >= 1.

    `rate` and `log_keep` [N, T] are theta and log(1 - alpha), alpha below 1.
    """
    decay = pad(log_keep[:, :-1], (1, 0))
    read, after = rule(q, k, v, decay, rate * (-log_keep).exp(), weights)
    keep = log_keep.exp()
    return keep[..., None] * read, keep[:, -1, None, None] * after


def gated_delta_memory(
    q: Tensor, k: Tensor, v: Tensor, gates: Gates, state: LinearState
) -> tuple[Tensor, LinearState]:
    """Compute `linear_memory` without momentum by the gated delta kernels of `fla`; T >= 2.

    The last token goes by itself: the rule knows no momentum, which is that token's write.
    """
    from .gated_delta_cuda import gated_delta_rule

    read, weights = by_gated_delta(
        gated_delta_rule, q[:, :-1], k[:, :-1], v[:, :-1],
        gates.rate[:, :-1], gates.log_keep[:, :-1], state.weights,
    )  # fmt: skip
    last, state = linear_step(
        q[:, -1], k[:, -1], v[:, -1],
        Gates(*(gate[:, -1] for gate in gates)), state._replace(weights=weights),
    )  # fmt: skip
    return torch.cat([read, last[:, None]], 1), state


def delta_rule_serves(q: Tensor, resets: Tensor | None) -> bool:
    """Whether the extra `fla` does a linear memory without momentum, for queries [N, T, D].

    It cannot reset rows between chunks, and is of no use to a token or two.
    """
    fits = resets is None and q.shape[1] > 1 and q.shape[-1] in TILES
    return fits and FLA_IS_THERE and kernels_may_serve(q) and delta_rule_agrees(q.device)


@functools.cache
def delta_rule_agrees(device: torch.device) -> bool:
    """Whether `fla`'s gated delta rule gives torch's numbers; a warning says where not."""
    return agrees(device, _errors, "the extra fla does not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    normal = normal_numbers(device)
    q, k = (normalize(normal(ROWS, CHUNK, WIDTH), dim=-1) for _ in range(2))
    v, rate, forget = normal(ROWS, CHUNK, WIDTH), normal(ROWS, CHUNK), normal(ROWS, CHUNK)
    never = torch.full_like(rate, -torch.inf)
    gates = Gates(rate.sigmoid(), logsigmoid(4 - forget), never, torch.zeros_like(rate))
    weights = normal(ROWS, WIDTH, WIDTH) / WIDTH**0.5
    state = LinearState(weights, torch.zeros_like(weights))
    read, after = gated_delta_memory(q, k, v, gates, state)
    exact, expected, _ = linear_memory(q, k, v, gates, state, chunk=CHUNK)
    yield "its reads", apart(read, exact)
    yield "its memory", apart(after.weights, expected.weights)
