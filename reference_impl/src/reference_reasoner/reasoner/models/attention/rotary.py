"""Rotary positions: Su et al. 2021 (RoFormer), equation 34, in the half-split order of TRM's code.

B batch, P persistent tokens, T tokens, D head width.
"""

import torch
from torch import Tensor

Angles = tuple[Tensor, Tensor]
"""Cosine and sine, [T, D/2] or [B, 1, T, D/2]."""


def rotary_angles(positions: Tensor, like: Tensor, base: float = 10000.0) -> Angles:
    """Cosine and sine of position * base^(-2i/D), i < D/2, for rows `like` [..., D].

    `positions` is int64 [T] or [B, T], the result [T, D/2] or [B, 1, T, D/2]: the same in each
    head. In float32, in float64 where `like` is.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    width = like.shape[-1]
    exponents = torch.arange(0, width, 2, device=like.device, dtype=dtype) / width
    angles = positions.to(dtype)[..., None] * base**-exponents
    if angles.ndim == 3:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + D/2}) of x [..., D], in the angles' dtype and then x's."""
    first, second = x.to(cos.dtype).chunk(2, -1)
    pairs = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    return pairs.to(x.dtype)


def positions_in(documents: Tensor, prefix: int) -> Tensor:
    """Positions int64 [B, P + T] of documents int64 [B, T]; each document begins at P."""
    batch, tokens = documents.shape
    index = torch.arange(prefix + tokens, device=documents.device).expand(batch, -1)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    place = index[:, :tokens]
    place = place - torch.where(begins, place, 0).cummax(1).values
    return torch.cat([index[:, :prefix], prefix + place], 1)
