"""A causal depthwise convolution over the last few tokens, whole or one token at a time.

B batch, T tokens, C channels, K taps.
"""

import torch
from torch import Tensor, nn

from .initial_weights import truncated_normal


class ShortConvolution(nn.Module):
    """out_t = sum_j weight_j x_{t-j}, j = 0 .. K-1, channel by channel (Titans, section 4.4).

    Written as a sum over taps, so that a tap can be cut where a document begins. It starts near
    taps of 1, 1/2, 1/4 ..., so that what stands before a token is in its key from the first
    step on.
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        if taps < 1:
            raise ValueError(f"model.backbone.memory.convolution must be at least 1, got {taps}")
        self.taps = taps
        self.weight = nn.Parameter(truncated_normal(torch.empty(channels, taps), std=0.1))
        with torch.no_grad():
            self.weight.add_(0.5 ** torch.arange(taps))

    def forward(self, x: Tensor, documents: Tensor | None = None) -> Tensor:
        """x [B, T, C], documents int64 [B, T] -> [B, T, C]; nothing comes from another document.

        C may be the first channels only.
        """
        weight = self.weight[: x.shape[-1]].to(x.dtype)
        total = x * weight[:, 0]
        for tap in range(1, min(self.taps, x.shape[1])):
            part = x[:, :-tap] * weight[:, tap]
            if documents is not None:
                part = part * (documents[:, tap:] == documents[:, :-tap])[..., None]
            total = total + nn.functional.pad(part, (0, 0, tap, 0))
        return total

    def tail(self, x: Tensor) -> Tensor:
        """Tail of the convolution: the last K - 1 rows of x [B, T, C], zeros if there are none."""
        kept = x[:, max(0, x.shape[1] - (self.taps - 1)) :] if self.taps > 1 else x[:, :0]
        return nn.functional.pad(kept, (0, 0, self.taps - 1 - kept.shape[1], 0))

    def step(self, x: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, 1, C], tail [B, K - 1, C] -> (out [B, 1, C], next tail); C as above."""
        window = torch.cat([tail, x], 1)
        weight = self.weight[: x.shape[-1]].to(x.dtype)
        out = (window * weight.flip(1).T).sum(1, keepdim=True)
        return out, window[:, 1:]


def activated(mixed: Tensor) -> Tensor:
    """SiLU, in at least float32."""
    return nn.functional.silu(mixed.to(torch.promote_types(mixed.dtype, torch.float32)))
