"""Gates of the long-term memory, and what they do to its weights within a chunk.

N rows (batch times heads), T tokens, C tokens of a chunk. Token t of a chunk (from 1) writes

    S_t = eta_t S_{t-1} - theta_t u_t,    M_t = (1 - alpha_t) M_{t-1} + S_t

(Behrouz et al. 2025, Titans, eq. 13 and 14), where u_t is the gradient of 1/2 ||M(k_t) - v_t||^2.
The paper leaves the 1/2 out; theta is then half of ours. Unrolled over the chunk this is

    M_t = keep_t M_0 + carry_t S_0 - sum_{j<=t} spread_tj theta_j u_j
    S_C = coast  S_0               - sum_j      trace_j   theta_j u_j

Products of gates are sums of logarithms; none of them can overflow, as every gate is at most 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Gates(NamedTuple):
    """Gates of the memory for each token, [N, T] each (one step: [N]), in the dtype of the queries.

    A logarithm may be -inf: the gate is then exactly 0 and gets a gradient of exactly 0.
    """

    rate: Tensor
    """theta >= 0, the step size; already damped by (1 - eta) where that is wanted."""
    log_keep: Tensor
    """log(1 - alpha) <= 0; alpha is the share that is forgotten."""
    log_momentum: Tensor
    """log(eta) <= 0; eta is the share of past surprise that lives on."""
    inner_rate: Tensor
    """Step size >= 0 of the first layer of a deep memory; others ignore it."""


STARTS = (0.0, -5.0, 0.5, -4.0)
"""Logits of theta, alpha, eta and the inner rate at first, the same for every token."""


class TokenGates(nn.Module):
    """The layer that makes the memory's Gates [N, T] from tokens x [B, T, W], in float32 or more.

    theta is damped, (1 - eta) sigmoid(.), and so is the inner rate: what momentum makes of a
    write in the long run then does not depend on eta. `inner` says whether the inner rate is
    asked for; without `momentum` eta is 0, without `forgetting` alpha is.
    """

    def __init__(
        self, width: int, *, heads: int, momentum: bool, forgetting: bool, inner: bool
    ) -> None:
        super().__init__()
        self.heads, self.momentum, self.forgetting = heads, momentum, forgetting
        kinds = len(STARTS) if inner else len(STARTS) - 1
        self.linear = nn.Linear(width, kinds * heads)
        nn.init.zeros_(self.linear.weight)
        with torch.no_grad():
            self.linear.bias.copy_(torch.tensor(STARTS[:kinds]).repeat(heads))

    def forward(self, x: Tensor) -> Gates:
        """Outside of autocast: products of many gates are taken."""
        kind = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.linear.weight.to(kind), self.linear.bias.to(kind)
            raw = nn.functional.linear(x.to(kind), weight, bias)
        return self.of_logits(raw)

    def of_logits(self, raw: Tensor) -> Gates:
        """What `linear` gave for tokens [B, T, gates H], in at least float32 -> Gates [N, T]."""
        by_head = raw.view(*raw.shape[:2], self.heads, -1).permute(3, 0, 2, 1)
        theta, alpha, eta, *inner = by_head.flatten(1, 2).unbind(0)
        log_keep = nn.functional.logsigmoid(-alpha)
        log_momentum, fresh = nn.functional.logsigmoid(eta), (-eta).sigmoid()
        if not self.forgetting:
            log_keep = torch.zeros_like(log_keep)
        if not self.momentum:
            log_momentum, fresh = torch.full_like(log_momentum, -torch.inf), torch.ones_like(fresh)
        inner_rate = fresh * inner[0].sigmoid() if inner else torch.zeros_like(fresh)
        return Gates(fresh * theta.sigmoid(), log_keep, log_momentum, inner_rate)


class Decay(NamedTuple):
    """Decay by a chunk's gates of old weights and of each token's write; `...` leads all."""

    keep: Tensor
    """[..., C] share of M_0 in M_t."""
    carry: Tensor
    """[..., C] share of S_0 in M_t."""
    spread: Tensor
    """[..., C, C] weight of the gradient of token j in M_t, theta included; 0 for j > t."""
    found_keep: Tensor
    """[..., C] keep of M_{t-1}, which a token finds when it arrives."""
    found_carry: Tensor
    """[..., C] carry of M_{t-1}."""
    found_spread: Tensor
    """[..., C, C] spread of M_{t-1}; 0 for j >= t."""
    last: Tensor
    """[..., C] spread of M_C, without theta: layers differ in their rates."""
    trace: Tensor
    """[..., C] weight of the gradient of token j in S_C, without theta."""
    coast: Tensor
    """[...] share of S_0 in S_C."""


def decay_of(gates: Gates) -> Decay:
    """`Decay` of gates [..., C]."""
    kept, keep = _products(gates.log_keep)
    moved, momentum = _products(gates.log_momentum)
    carry = (kept @ momentum[..., None])[..., 0]
    plain = kept @ moved
    spread = plain * gates.rate[..., None, :]
    return Decay(
        keep,
        carry,
        spread,
        torch.cat([torch.ones_like(keep[..., :1]), keep[..., :-1]], -1),
        pad(carry[..., :-1], (1, 0)),
        pad(spread[..., :-1, :], (0, 0, 1, 0)),
        plain[..., -1, :],
        moved[..., -1, :],
        momentum[..., -1],
    )


def chunked(x: Tensor, chunk: int) -> Tensor:
    """[N, T, ...] -> [N, T / C, C, ...]."""
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:])


def parts(tokens: int, chunk: int) -> list[tuple[slice, int]]:
    """The whole chunks, and the tokens after them as a shorter one; with the chunks' length.

    What is empty is left out.
    """
    whole = tokens - tokens % chunk
    found = [(slice(0, whole), chunk), (slice(whole, tokens), tokens - whole)]
    return [(part, size) for part, size in found if part.start < part.stop]


def check_chunks(tokens: int, chunk: int, initial: object, resets: Tensor | None) -> None:
    """Raise ValueError where `chunk`, or `resets` of these tokens, make no sense."""
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if resets is None:
        return
    if initial is None:
        raise ValueError("resets need the state to reset to: initial is None")
    if tokens % chunk or resets.shape[1] != tokens // chunk:
        raise ValueError(
            f"resets need one column for each whole chunk: got {resets.shape[1]} columns, "
            f"{tokens} tokens and chunks of {chunk}"
        )


def _products(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Products of gates exp(logs) [..., C] over t in (j, i] as [..., C, C], and over t <= i.

    Zeros are counted apart from the sums, since -inf minus -inf is not a number; and exponents
    are masked before exp, so that no infinity meets a zero in the backward pass either.
    """
    zero = logs == -torch.inf
    sums = logs.masked_fill(zero, 0).cumsum(-1)
    zeros = zero.cumsum(-1)
    size = logs.shape[-1]
    empty = torch.ones(size, size, dtype=torch.bool, device=logs.device).triu(1)
    empty = empty | (zeros[..., :, None] != zeros[..., None, :])
    between = (sums[..., :, None] - sums[..., None, :]).masked_fill(empty, -torch.inf)
    return between.exp(), sums.masked_fill(zeros > 0, -torch.inf).exp()
