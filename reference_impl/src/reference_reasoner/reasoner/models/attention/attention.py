"""Self-attention with rotary positions, whole or token by token; `attend` says who sees whom.

B batch, P persistent tokens (the prefix), T tokens, N = P + T rows, W width, H heads,
D = W / H head width, R slots of a cache.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ..layers.initial_weights import truncated_normal
from ..layers.projection import Projection
from .rotary import Angles, positions_in, rotary_angles, turned
from .window_attention import attend, block_mask_of

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Layout(NamedTuple):
    """Where the rows of x [B, P + T, W] stand and what they see: the same in each block and pass.

    Inside a compiled block, cosines would be computed anew for each head of each row.
    """

    angles: Angles
    block_mask: "BlockMask | None"


class AttentionCache(NamedTuple):
    """Keys (rotated) and values of the prefix and of the tokens so far, allocated once.

    Row P + i % R is that of token number i. All tensors are written in place; the attentions of
    one model may share `visible` and `seen`.
    """

    all_keys: Tensor
    """[B, H, P + R, D], R the window, or the capacity without one."""
    all_values: Tensor
    """[B, H, P + R, D]"""
    visible: Tensor
    """bool [P + R]: the rows that have been written."""
    seen: Tensor
    """int64, a scalar: tokens so far, persistent ones not counted."""
    prefix: int
    """P."""
    room: int
    """Tokens that still fit, known to the host so that no check waits for the device; 0, and
    not looked at, with a window."""

    @property
    def keys(self) -> Tensor:
        """Keys of the tokens that attention keeps, [B, H, R, D]."""
        return self.all_keys[:, :, self.prefix :]

    @property
    def values(self) -> Tensor:
        """Values of the tokens that attention keeps, [B, H, R, D]."""
        return self.all_values[:, :, self.prefix :]


class Place(NamedTuple):
    """Place of the next token, the same in all attentions that decode together."""

    row: Tensor
    """int64 [1]: its row of the cache."""
    cos: Tensor
    """[1, D/2]: of its rotary angles."""
    sin: Tensor
    """[1, D/2]"""
    unseen: Tensor
    """[1, P + R], in the keys' dtype: -inf for rows that nobody has written, 0 for others."""


class SelfAttention(nn.Module):
    """Self-attention of x [B, P + T, W]: q, k, v, rotary positions, `attend`, projection.

    A persistent row's position is its index, a token's is P + its index in its document. The
    width is an even multiple of `heads`, and only a causal one has a window: `BackboneConfig`
    refuses others.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        window: int = 0,
        causal: bool = False,
        rotary_base: float = 10000.0,
    ) -> None:
        super().__init__()
        self.heads, self.window, self.causal, self.rotary_base = heads, window, causal, rotary_base
        self.qkv = Projection(width, 3 * width, bias=False)
        self.out = Projection(width, width, bias=False)
        for linear in (self.qkv, self.out):
            truncated_normal(linear.weight, std=width**-0.5)

    def forward(
        self,
        x: Tensor,
        *,
        prefix: int = 0,
        documents: Tensor | None = None,
        layout: Layout | None = None,
    ) -> Tensor:
        """The first `prefix` rows are persistent; `documents` int64 [B, T], nondecreasing.

        `layout` is that of `layout_of`, where it is at hand.
        """
        layout = layout or self.layout_of(x, prefix, documents)
        q, k, v = self._rotated(x, layout.angles)
        return self._attended(q, k, v, prefix, documents, layout.block_mask)

    def layout_of(self, x: Tensor, prefix: int, documents: Tensor | None) -> Layout:
        """The layout of x [B, P + T, W]."""
        rows, like = x.shape[1], x[..., : x.shape[-1] // self.heads]
        positions = torch.arange(rows, device=x.device)
        if documents is not None:
            positions = positions_in(documents, prefix)
        return Layout(
            rotary_angles(positions, like, self.rotary_base),
            block_mask_of(like, rows, prefix=prefix, window=self.window, documents=documents),
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project x [B, N, W] to attention's q, k, v [B, H, N, D], not yet rotated."""
        q, k, v = self.by_head(self.qkv(x)).unbind(0)
        return q, k, v

    def by_head(self, qkv: Tensor) -> Tensor:
        """Split attention's projection [B, N, 3 W] by head: q, k, v [3, B, H, N, D]."""
        batch, rows, columns = qkv.shape  # there may be no rows, and then -1 would be no width
        heads = qkv.reshape(batch, rows, 3, self.heads, columns // 3 // self.heads)
        return heads.permute(2, 0, 3, 1, 4)

    def prefill(
        self, x: Tensor, *, prefix: int, capacity: int, layout: Layout | None = None
    ) -> tuple[Tensor, AttentionCache]:
        """`forward` of x [B, P + T, W], T >= 0, and the cache after it.

        Without a window the cache holds `capacity` tokens; with one `capacity` is not looked at.
        Raises ValueError for more tokens than that.
        """
        tokens = x.shape[1] - prefix
        slots = self.window or capacity
        if not self.window and tokens > capacity:
            raise ValueError(f"{tokens} tokens do not fit a cache with a capacity of {capacity}")
        layout = layout or self.layout_of(x, prefix, None)
        q, k, v = self._rotated(x, layout.angles)
        kept = min(tokens, slots)
        order = prefix + torch.arange(tokens - kept, tokens, device=x.device) % max(slots, 1)

        def ring(rows: Tensor) -> Tensor:
            ring = rows.new_zeros(*rows.shape[:2], prefix + slots, rows.shape[3])
            ring[:, :, :prefix] = rows[:, :, :prefix]
            return ring.index_copy_(2, order, rows[:, :, rows.shape[2] - kept :])

        cache = AttentionCache(
            all_keys=ring(k),
            all_values=ring(v),
            visible=torch.arange(prefix + slots, device=x.device) < prefix + kept,
            seen=torch.full((), tokens, device=x.device, dtype=torch.int64),
            prefix=prefix,
            room=0 if self.window else capacity - tokens,
        )
        return self._attended(q, k, v, prefix, None, layout.block_mask), cache

    def next_place(self, cache: AttentionCache) -> Place:
        """The next token's place, which is then taken: `cache` counts it, and shows its row.

        Raises ValueError for attention that is not causal, and where there is no window and the
        capacity is used up.
        """
        self.check_room(cache)
        slots = cache.keys.shape[2]
        row = (cache.prefix + cache.seen % slots)[None]
        position = (cache.prefix + cache.seen)[None]
        cos, sin = rotary_angles(position, cache.all_keys, self.rotary_base)
        cache.visible.index_fill_(0, row, True)
        cache.seen.add_(1)
        unseen = cache.all_keys.new_zeros(1, len(cache.visible))
        return Place(row, cos, sin, unseen.masked_fill_(~cache.visible, -torch.inf))

    def check_room(self, cache: AttentionCache) -> None:
        """Raises ValueError where there is no next token, as `next_place` says."""
        if not self.causal:
            raise ValueError("only causal attention has a next token: model.backbone.causal")
        if not self.window and cache.room < 1:
            slots = cache.keys.shape[2]
            raise ValueError(f"the cache is full: its capacity is {slots} tokens")

    def step(
        self, x: Tensor, cache: AttentionCache, place: Place | None = None
    ) -> tuple[Tensor, AttentionCache]:
        """Attend from one more token x [B, 1, W], at the next place if `place` is not given.

        Its key and value are written into `cache` in place: one that was handed in must not be
        used again. Not for training: what was written over has no gradient. Raises ValueError as
        `next_place` does.
        """
        place = place or self.next_place(cache)
        heads, cache = self.attend_next(self.by_head(self.qkv(x)), cache, place)
        return self._merged(heads), cache

    def attend_next(
        self, qkv: Tensor, cache: AttentionCache, place: Place
    ) -> tuple[Tensor, AttentionCache]:
        """`step` between its projections: qkv [3, B, H, 1, D] -> [B, H, 1, D]."""
        q, k = turned(qkv[:2], place.cos, place.sin).unbind(0)
        cache.all_keys.index_copy_(2, place.row, k)
        cache.all_values.index_copy_(2, place.row, qkv[2])
        heads = scaled_dot_product_attention(
            q, cache.all_keys, cache.all_values, attn_mask=place.unseen
        )
        return heads, self.taken(cache)

    def taken(self, cache: AttentionCache) -> AttentionCache:
        """The attention cache with room for one token less."""
        return cache._replace(room=cache.room if self.window else cache.room - 1)

    def _rotated(self, x: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.project(x)
        return turned(q, *angles), turned(k, *angles), v

    def _attended(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prefix: int,
        documents: Tensor | None,
        block_mask: "BlockMask | None",
    ) -> Tensor:
        rule = {"prefix": prefix, "window": self.window}
        out = attend(
            q, k, v, causal=self.causal, documents=documents, block_mask=block_mask, **rule
        )
        return self._merged(out)

    def _merged(self, heads: Tensor) -> Tensor:
        """Merge attention's heads [B, H, N, D] and project them to [B, N, W]."""
        out: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return out
