"""Self-attention with rotary positions, whole or token by token; `attend` says who sees whom.

B batch, P persistent tokens (the prefix), T tokens, N = P + T rows, W width, H heads,
D = W / H head width, R slots of a cache.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from .attend import attend, check_window
from .trm_wrapper import truncated_normal


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    """x [B, H, T, D] with the pair (x_i, x_{i + D/2}) turned by position * base^(-2i/D).

    Su et al. 2021 (RoFormer), equation 34, in the half-split order of Llama and of TRM's code.
    `positions` is int64 [T] or [B, T]. Computed in float32, in float64 for float64; the result
    has the dtype of x.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    width = x.shape[-1]
    exponents = torch.arange(0, width, 2, device=x.device, dtype=dtype) / width
    angles = positions.to(dtype)[..., None] * base**-exponents
    if angles.ndim == 3:
        angles = angles[:, None]  # the same in each head
    cos, sin = angles.cos(), angles.sin()
    first, second = x.to(dtype).chunk(2, -1)
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    return turned.to(x.dtype)


class AttentionCache(NamedTuple):
    """Keys (rotated) and values of the tokens so far; token number i is in slot i % R."""

    prefix_keys: Tensor
    """[B, H, P, D]"""
    prefix_values: Tensor
    """[B, H, P, D]"""
    keys: Tensor
    """[B, H, R, D], R the window, or the capacity without one."""
    values: Tensor
    """[B, H, R, D]"""
    seen: Tensor
    """int64, a scalar: tokens so far, persistent ones not counted."""
    room: int
    """Tokens that still fit, known to the host so that no check waits for the device; 0, and
    not looked at, with a window."""


def attend_step(
    q: Tensor, k: Tensor, v: Tensor, cache: AttentionCache, *, window: int
) -> tuple[Tensor, AttentionCache]:
    """One more token, q, k, v [B, H, 1, D] -> (out [B, H, 1, D], the cache with it).

    The key and the value are written into `cache` in place: a cache that was handed in must not
    be used again. Not for training: what was written over has no gradient. Raises ValueError
    where there is no window and the capacity is used up.
    """
    slots = cache.keys.shape[2]
    if not window and cache.room < 1:
        raise ValueError(f"the cache is full: its capacity is {slots} tokens")
    slot = (cache.seen % slots)[None]
    cache.keys.index_copy_(2, slot, k)
    cache.values.index_copy_(2, slot, v)
    written = torch.arange(slots, device=q.device) <= cache.seen
    out = scaled_dot_product_attention(
        q,
        torch.cat([cache.prefix_keys, cache.keys], 2),
        torch.cat([cache.prefix_values, cache.values], 2),
        attn_mask=pad(written, (cache.prefix_keys.shape[2], 0), value=True)[None],
    )
    room = cache.room if window else cache.room - 1
    return out, cache._replace(seen=cache.seen + 1, room=room)


class SelfAttention(nn.Module):
    """x [B, P + T, W] -> [B, P + T, W]: q, k, v from x, rotary positions, `attend`, projection.

    A persistent row's position is its index, a token's is P + its index in its document. Raises
    ValueError for a width that is no multiple of `heads`, an odd head width and a window that
    is negative or not causal.
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
        if width % heads or (width // heads) % 2:
            raise ValueError(
                "model.backbone.width must be an even multiple of model.backbone.heads, "
                f"got width {width} and heads {heads}"
            )
        check_window(window, causal)
        self.heads, self.window, self.causal = heads, window, causal
        self.rotary_base = rotary_base
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        for linear in (self.qkv, self.out):
            truncated_normal(linear.weight, std=width**-0.5)

    def forward(self, x: Tensor, *, prefix: int = 0, documents: Tensor | None = None) -> Tensor:
        """The first `prefix` rows are persistent; `documents` int64 [B, T], nondecreasing."""
        return self._attended(*self._rotated(x, prefix, documents), prefix, documents)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, N, W] -> q, k, v [B, H, N, D], not yet rotated."""
        batch, rows, width = x.shape
        qkv: Tensor = self.qkv(x)
        heads = qkv.reshape(batch, rows, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def prefill(self, x: Tensor, *, prefix: int, capacity: int) -> tuple[Tensor, AttentionCache]:
        """`forward` of x [B, P + T, W], T >= 0, and the cache after it.

        Without a window the cache holds `capacity` tokens; with one `capacity` is not looked at.
        Raises ValueError for more tokens than that.
        """
        tokens = x.shape[1] - prefix
        slots = self.window or capacity
        if not self.window and tokens > capacity:
            raise ValueError(f"{tokens} tokens do not fit a cache with a capacity of {capacity}")
        q, k, v = self._rotated(x, prefix, None)
        kept = min(tokens, slots)
        order = torch.arange(tokens - kept, tokens, device=x.device) % max(slots, 1)

        def ring(rows: Tensor) -> Tensor:
            empty = rows.new_zeros(*rows.shape[:2], slots, rows.shape[3])
            return empty.index_copy(2, order, rows[:, :, rows.shape[2] - kept :])

        cache = AttentionCache(
            prefix_keys=k[:, :, :prefix],
            prefix_values=v[:, :, :prefix],
            keys=ring(k),
            values=ring(v),
            seen=torch.full((), tokens, device=x.device, dtype=torch.int64),
            room=0 if self.window else capacity - tokens,
        )
        return self._attended(q, k, v, prefix, None), cache

    def step(self, x: Tensor, cache: AttentionCache) -> tuple[Tensor, AttentionCache]:
        """One more token x [B, 1, W]; writes into `cache` in place (see `attend_step`).

        Raises ValueError for a full cache, and for attention that is not causal.
        """
        if not self.causal:
            raise ValueError("only causal attention has a next token: model.backbone.causal")
        q, k, v = self.project(x)
        position = (cache.seen + cache.prefix_keys.shape[2])[None]
        q, k = (apply_rotary(part, position, self.rotary_base) for part in (q, k))
        out, cache = attend_step(q, k, v, cache, window=self.window)
        return self._merged(out), cache

    def _rotated(
        self, x: Tensor, prefix: int, documents: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.project(x)
        positions = torch.arange(x.shape[1], device=x.device)
        if documents is not None:
            positions = _positions_in(documents, prefix)
        q, k = (apply_rotary(part, positions, self.rotary_base) for part in (q, k))
        return q, k, v

    def _attended(
        self, q: Tensor, k: Tensor, v: Tensor, prefix: int, documents: Tensor | None
    ) -> Tensor:
        options = {"prefix": prefix, "window": self.window}
        return self._merged(attend(q, k, v, causal=self.causal, documents=documents, **options))

    def _merged(self, heads: Tensor) -> Tensor:
        """[B, H, N, D] -> [B, N, W], projected."""
        out: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return out


def _positions_in(documents: Tensor, prefix: int) -> Tensor:
    """documents int64 [B, T] -> positions int64 [B, P + T]; each document begins at P."""
    batch, tokens = documents.shape
    index = torch.arange(prefix + tokens, device=documents.device).expand(batch, -1)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    place = index[:, :tokens]
    place = place - torch.where(begins, place, 0).cummax(1).values
    return torch.cat([index[:, :prefix], prefix + place], 1)
