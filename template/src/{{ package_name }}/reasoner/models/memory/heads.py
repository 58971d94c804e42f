"""Queries, keys and values of the memory's heads, cut out of what its tokens are projected to.

B batch, T tokens, H heads, D head width, W = H D, N = B H rows.
"""

from typing import NamedTuple

from torch import Tensor


class Heads(NamedTuple):
    """Queries, keys and values of each head, [N, T, D] in at least float32."""

    query: Tensor
    key: Tensor
    value: Tensor


def by_head(x: Tensor, heads: int, kinds: int = 3) -> Tensor:
    """Split projections into heads, [B, T, kinds W] -> [kinds, N, T, D]."""
    batch, tokens, channels = x.shape
    width = channels // kinds // heads
    split = x.view(batch, tokens, kinds, heads, width).permute(2, 0, 3, 1, 4)
    return split.reshape(kinds, batch * heads, tokens, width)


def together(x: Tensor, batch: int) -> Tensor:
    """Join heads into projections, [kinds, N, T, D] -> [B, T, kinds W], as `by_head` split them."""
    kinds, _, tokens, width = x.shape
    split = x.view(kinds, batch, -1, tokens, width).permute(1, 3, 0, 2, 4)
    return split.reshape(batch, tokens, -1)
