"""The linear memory without momentum as a gated delta rule, for which others have fast kernels.

N rows, T tokens, D key width, V value width. The rule (Yang et al. 2024, Gated Delta Networks)
forgets before it looks, the memory after it has looked:

    S_t = decay_t S_{t-1} + beta_t k_t^T (v_t - decay_t k_t S_{t-1}),    o_t = q_t S_t

With S_t = M_t / keep_t, keep = 1 - alpha, they are the same for decay_t = keep_{t-1} (1 for the
first token) and beta_t = theta_t / keep_t; what the memory reads is keep_t o_t.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..gates import Gates
from ..linear import LinearState, linear_step

Rule = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""q, k [N, T, D], v [N, T, V], log of decay and beta [N, T], S_0 [N, D, V] -> o [N, T, V], S_T."""


def by_gated_delta(
    rule: Rule, q: Tensor, k: Tensor, v: Tensor, rate: Tensor, log_keep: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """What the tokens read and M after the last one, from M = `weights`, by `rule`; T >= 1.

    `rate` and `log_keep` [N, T] are theta and log(1 - alpha), alpha below 1.
    """
    decay = pad(log_keep[:, :-1], (1, 0))
    read, after = rule(q, k, v, decay, rate * (-log_keep).exp(), weights)
    keep = log_keep.exp()
    return keep[..., None] * read, keep[:, -1, None, None] * after


def gated_delta_memory(
    q: Tensor, k: Tensor, v: Tensor, gates: Gates, state: LinearState
) -> tuple[Tensor, LinearState]:
    """`linear_memory` of tokens without momentum, by the kernels of the extra `fla`; T >= 2.

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
