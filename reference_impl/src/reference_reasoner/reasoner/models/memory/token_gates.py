"""The memory's gates as functions of the token (Titans, section 3.1).

B batch, T tokens, W width, H heads, N = B H rows.
"""

import torch
from torch import Tensor, nn

from .gates import Gates

STARTS = (0.0, -5.0, 0.5, -4.0)
"""Logits of theta, alpha, eta and the inner rate at first, the same for every token."""


class TokenGates(nn.Module):
    """x [B, T, W] -> Gates [N, T] in at least float32.

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
