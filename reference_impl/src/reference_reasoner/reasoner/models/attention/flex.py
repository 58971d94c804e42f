"""Window attention by FlexAttention's kernels: no mask is stored, blocks out of sight are skipped.

B batch, P persistent tokens, T tokens, H heads, D head width. FlexAttention: Dong et al. 2024.
"""

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from .window_mask import sight

_flex_attention = torch.compile(flex_attention)
_create_block_mask = torch.compile(create_block_mask)  # uncompiled it stores the [N, N] mask


def window_mask(
    rows: int, device: torch.device, *, prefix: int, window: int, documents: Tensor | None
) -> BlockMask:
    """Build FlexAttention's mask of P + T `rows`, as `attend` has it; `documents` [B, T]."""
    batch = None if documents is None else len(documents)
    rule = sight(prefix, window, documents)
    mask: BlockMask = _create_block_mask(rule, batch, None, rows, rows, device=device)
    return mask


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask) -> Tensor:
    """Causal attention with a window by FlexAttention; q, k, v and the result [B, H, P + T, D]."""
    out: Tensor = _flex_attention(q, k, v, block_mask=mask)
    return out
