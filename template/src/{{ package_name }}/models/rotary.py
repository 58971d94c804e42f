"""Rotary positions. B batch, H heads, T tokens, D head width."""

import torch
from torch import Tensor


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """Turn x [B, H, T, D] by `positions`, int64 [T] or [B, T] (Su et al. 2021, RoFormer, eq. 34).

    Number i is paired with number i + D / 2, as in Llama and in the official TRM.
    """
    half = x.shape[-1] // 2
    kind = torch.promote_types(x.dtype, torch.float32)
    exponents = torch.arange(half, dtype=kind, device=x.device) / half
    angles = positions.to(kind)[..., None] * base**-exponents
    if angles.ndim == 3:
        angles = angles[:, None]  # the same for all heads
    first, second = x.to(kind).chunk(2, -1)
    sine, cosine = angles.sin(), angles.cos()
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return torch.cat(turned, -1).to(x.dtype)


def places(documents: Tensor) -> Tensor:
    """Place of each token in its document, from 0; int64 [B, T] both, equal ids side by side."""
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - torch.where(begins, index, 0).cummax(1).values
