"""Window attention by FlexAttention's kernels: no mask is stored, blocks out of sight are skipped.

B batch, P persistent tokens, T tokens, H heads, D head width. FlexAttention: Dong et al. 2024.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from .attend import sight

_flex_attention = torch.compile(flex_attention)
_create_block_mask = torch.compile(create_block_mask)  # uncompiled it stores the [N, N] mask


def windowed_attention(
    q: Tensor, k: Tensor, v: Tensor, *, prefix: int, window: int, documents: Tensor | None
) -> Tensor:
    """Causal attention with a window as `attend` defines it, [B, H, P + T, D]."""
    batch, rows = (None if documents is None else q.shape[0]), q.shape[2]
    rule = sight(prefix, window, documents)
    mask = _create_block_mask(rule, batch, None, rows, rows, device=q.device)
    out: Tensor = _flex_attention(q, k, v, block_mask=mask)
    return out
