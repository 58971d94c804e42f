"""A sliding window on CUDA: FlexAttention, which skips the blocks that the mask leaves empty.

B batch, H heads, P persistent tokens, T tokens, D head width. Its twin on the CPU is
`attention._windowed`; a test marked `gpu` holds the two against each other.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


@cache
def _compiled() -> Any:
    return torch.compile(flex_attention, dynamic=False)


def windowed(
    q: Tensor, k: Tensor, v: Tensor, prefix: int, window: int, documents: Tensor | None
) -> Tensor:
    """q [B, H, T, D]; k, v [B, H, P + T, D] -> [B, H, T, D]."""

    def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        apart = i - (j - prefix)
        near = (apart >= 0) & (apart < window)
        if documents is not None:
            near = near & (documents[b, i] == documents[b, (j - prefix).clamp_min(0)])
        return near | (j < prefix)

    rows = None if documents is None else q.shape[0]
    mask = create_block_mask(visible, rows, None, q.shape[2], k.shape[2], device=q.device)
    out: Tensor = _compiled()(q, k, v, block_mask=mask)
    return out
