"""Self-attention with rotary positions: full, causal, or a sliding window with persistent tokens.

B batch, P persistent tokens, T tokens, W width, H heads, D = W / H head width, S window,
R slots of a cache. Who sees whom:

- not causal: everything sees everything; with documents, tokens see the persistent tokens and
  their own document, and persistent tokens see one another.
- causal: persistent tokens see one another; token i sees them and each token j <= i of its
  document, with a window S those with i - j < S only, which are S keys, its own among them.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from .rotary import apply_rotary, places
from .trm_wrapper import truncated_normal


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prefix: int = 0,
    window: int = 0,
    causal: bool = False,
    documents: Tensor | None = None,
) -> Tensor:
    """q, k, v [B, H, P + T, D] -> [B, H, P + T, D]; `documents` int64 [B, T] or None.

    A window of 0 is none. With one, memory grows as T S, not as T T. Raises ValueError for a
    window that is not causal.
    """
    if window and not causal:
        raise ValueError(f"a window ({window}) is for causal attention")
    if documents is None and not causal:
        return scaled_dot_product_attention(q, k, v)
    tokens = q.shape[2] - prefix
    narrow = 0 < window < tokens
    if documents is None and not prefix and not narrow:
        return scaled_dot_product_attention(q, k, v, is_causal=True)
    before = scaled_dot_product_attention(q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix])
    later = q[:, :, prefix:]
    if not narrow:
        mask = _dense_mask(tokens, prefix, causal, documents, q.device)
        after = scaled_dot_product_attention(later, k, v, attn_mask=mask)
    elif q.is_cuda:
        from .attention_cuda import windowed

        after = windowed(later, k, v, prefix, window, documents)
    else:
        after = _windowed(later, k, v, prefix, window, documents)
    return torch.cat([before, after], 2)


def _dense_mask(
    tokens: int, prefix: int, causal: bool, documents: Tensor | None, device: torch.device
) -> Tensor:
    """bool [1 or B, 1, T, P + T]: the keys that each token sees."""
    mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril()
    if documents is not None:
        mask = mask & (documents[:, None, :, None] == documents[:, None, None, :])
    return pad(mask, (prefix, 0), value=True)


def _windowed(
    q: Tensor, k: Tensor, v: Tensor, prefix: int, window: int, documents: Tensor | None
) -> Tensor:
    """Blocks of S queries see persistent keys, their own block and the last, as the mask says.

    q [B, H, T, D]; k, v [B, H, P + T, D] -> [B, H, T, D].
    """
    batch, heads, tokens, width = q.shape
    blocks = -(-tokens // window)
    added = blocks * window - tokens

    def folded(x: Tensor) -> Tensor:  # [B, H, T, D] -> [B, n, H, S, D]
        padded = pad(x, (0, 0, 0, added))
        return padded.view(batch, heads, blocks, window, width).transpose(1, 2)

    def seen(x: Tensor) -> Tensor:  # [B, H, P + T, D] -> [B n, H, P + 2 S, D]
        own = folded(x[:, :, prefix:])
        last = pad(own[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        persistent = x[:, None, :, :prefix].expand(-1, blocks, -1, -1, -1)
        return torch.cat([persistent, last, own], 3).flatten(0, 1)

    mask = _block_mask(batch, blocks, window, documents, added, q.device)
    mask = pad(mask, (prefix, 0), value=True).flatten(0, 1)[:, None]
    out = scaled_dot_product_attention(folded(q).flatten(0, 1), seen(k), seen(v), attn_mask=mask)
    joined = out.view(batch, blocks, heads, window, width).transpose(1, 2)
    return joined.reshape(batch, heads, blocks * window, width)[:, :, :tokens]


def _block_mask(
    batch: int,
    blocks: int,
    window: int,
    documents: Tensor | None,
    added: int,
    device: torch.device,
) -> Tensor:
    """bool [B, n, S, 2 S]: keys of the block before and of the own one that a query sees."""
    place = torch.arange(window, device=device)
    # query i and key j of the block before are S + i - j apart, which is less than S for j > i
    near = torch.cat([place[None] > place[:, None], place[None] <= place[:, None]], 1)
    mask = near.expand(batch, blocks, -1, -1).clone()
    mask[:, 0, :, :window] = False
    if documents is not None:
        own = pad(documents, (0, added), value=-1).view(batch, blocks, window)
        last = pad(own[:, :-1], (0, 0, 1, 0), value=-1)
        mask &= own[..., None] == torch.cat([last, own], 2)[:, :, None]
    return mask


class AttentionCache(NamedTuple):
    """Keys and values of the tokens that the next one may see; keys are turned already."""

    prefix_keys: Tensor
    """[B, H, P, D]"""
    prefix_values: Tensor
    """[B, H, P, D]"""
    keys: Tensor
    """[B, H, R, D]: a ring, token i in slot i % R. Written in place."""
    values: Tensor
    """[B, H, R, D], likewise."""
    seen: int
    """Tokens so far."""


class SelfAttention(nn.Module):
    """x [B, P + T, W] -> [B, P + T, W]; no biases. The first P rows are persistent tokens."""

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
                f"model.backbone.width ({width}) must be an even multiple of "
                f"model.backbone.heads ({heads})"
            )
        if window < 0 or (window and not causal):
            raise ValueError(
                f"model.backbone.window is {window}: it must be 0, or above 0 in a causal model"
            )
        self.heads, self.window, self.causal = heads, window, causal
        self.rotary_base = rotary_base
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        for linear in (self.qkv, self.out):
            truncated_normal(linear.weight, std=width**-0.5)

    def forward(self, x: Tensor, *, prefix: int = 0, documents: Tensor | None = None) -> Tensor:
        """Positions go on from the persistent tokens, and begin anew with each document."""
        q, k, v = self._project(x, self._positions(x, prefix, documents))
        return self._output(self._attend(q, k, v, prefix, documents))

    def prefill(self, x: Tensor, *, prefix: int, capacity: int) -> tuple[Tensor, AttentionCache]:
        """`forward`, and the cache after its T >= 0 tokens.

        The cache has as many slots as the window; without one it has `capacity`. Raises
        ValueError where these are fewer than the tokens.
        """
        tokens = x.shape[1] - prefix
        slots = self.window or capacity
        if not self.window and tokens > capacity:
            raise ValueError(f"{tokens} tokens do not fit a capacity of {capacity}")
        q, k, v = self._project(x, self._positions(x, prefix, None))
        kept = torch.arange(max(0, tokens - slots), tokens, device=x.device)
        rings = []
        for each in (k, v):
            ring = each.new_zeros(*each.shape[:2], slots, each.shape[-1])
            ring[:, :, kept % slots] = each[:, :, prefix + kept]
            rings.append(ring)
        cache = AttentionCache(k[:, :, :prefix], v[:, :, :prefix], rings[0], rings[1], tokens)
        return self._output(self._attend(q, k, v, prefix, None)), cache

    def step(self, x: Tensor, cache: AttentionCache) -> tuple[Tensor, AttentionCache]:
        """One more token x [B, 1, W]. The cache that is handed in must not be used again.

        Raises ValueError where a model without a window has used up its capacity.
        """
        slots = cache.keys.shape[2]
        if not self.window and cache.seen >= slots:
            raise ValueError(
                f"the cache holds {slots} tokens and is full: prefill with a larger capacity"
            )
        position = torch.tensor([cache.prefix_keys.shape[2] + cache.seen], device=x.device)
        q, k, v = self._project(x, position)
        slot = cache.seen % slots
        cache.keys[:, :, slot], cache.values[:, :, slot] = k[:, :, 0], v[:, :, 0]
        seen = cache.seen + 1
        # in which order the slots are does not matter, as their positions are in the keys
        keys = torch.cat([cache.prefix_keys, cache.keys[:, :, :seen]], 2)
        values = torch.cat([cache.prefix_values, cache.values[:, :, :seen]], 2)
        out = scaled_dot_product_attention(q, keys, values)
        return self._output(out), cache._replace(seen=seen)

    def _positions(self, x: Tensor, prefix: int, documents: Tensor | None) -> Tensor:
        index = torch.arange(x.shape[1], device=x.device)
        if documents is None:
            return index
        return torch.cat([index[:prefix].expand(len(x), -1), places(documents) + prefix], 1)

    def _project(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, W] -> turned queries, turned keys and values, [B, H, T, D] each."""
        split = self.qkv(x).view(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        base = self.rotary_base
        return apply_rotary(q, positions, base), apply_rotary(k, positions, base), v

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, prefix: int, documents: Tensor | None
    ) -> Tensor:
        return attend(
            q, k, v, prefix=prefix, window=self.window, causal=self.causal, documents=documents
        )

    def _output(self, attended: Tensor) -> Tensor:
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return out
