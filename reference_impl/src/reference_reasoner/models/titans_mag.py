"""Titans' memory as a gate: attention and long-term memory side by side (Titans, section 4.2).

B batch, P persistent tokens, T tokens, W width, H heads, D = W / H head width. A block is
post-norm, as in TRM: x = rms(x + mix(x)), x = rms(x + swiglu(x)). The memory begins anew in
each call, so a block is a pure function of its input.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from .attention import Angles, AttentionCache, Place, SelfAttention
from .feed_forward import SwiGLU, rms
from .memory_deep import Position
from .neural_memory import MemoryCache, MemoryConfig, NeuralMemory


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Size and form of the network that the recursion applies."""

    width: int = 64
    """Numbers a token is represented by."""
    layers: int = 2
    """Blocks."""
    heads: int = 4
    """Attention heads."""
    hidden_width: int = 256
    """Inner width of SwiGLU."""
    causal: bool = False
    """A token sees itself and what came before it only."""
    window: int = 0
    """causal: the tokens that attention sees, itself included; 0 sees all."""
    mixer: Literal["attention", "tokens"] = "attention"
    """How tokens are mixed: attention, or a SwiGLU over the positions (TRM's MLP form)."""
    use_memory: bool = True
    """Run the long-term memory beside the attention."""
    memory: MemoryConfig = MemoryConfig()
    gate: Literal["convex", "multiply"] = "convex"
    """convex: g attention + (1 - g) memory. multiply: attention x sigmoid(memory) (Titans)."""
    gate_bias: float = 2.0
    """convex: where the gate starts; above 0 is nearer to attention."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "hidden_width"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"model.backbone.{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.mixer == "tokens" and (self.causal or self.use_memory):
            raise ValueError(
                "model.backbone.mixer is 'tokens', which sees every position and has no memory: "
                f"got causal {self.causal} and use_memory {self.use_memory}"
            )


class BlockCache(NamedTuple):
    """What decoding keeps of the tokens so far, for one block in one pass; written in place."""

    attention: AttentionCache
    memory: MemoryCache | None


class MemoryGate(nn.Module):
    """Attention y and memory m, each [B, T, W], joined for tokens x [B, T, W].

    convex: g n(y) + (1 - g) n(m), one g in (0, 1) a head, from x. multiply: n(y) sigmoid(n(m)),
    as Titans has it; it cannot add what attention lacks. n is rms with a learned gain.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.attention_gain = nn.Parameter(torch.ones(config.width))
        self.memory_gain = nn.Parameter(torch.ones(config.width))
        self.heads = config.heads
        self.linear: nn.Linear | None = None
        if config.gate == "convex":
            self.linear = nn.Linear(config.width, config.heads)
            nn.init.zeros_(self.linear.weight)
            nn.init.constant_(self.linear.bias, config.gate_bias)

    def forward(self, x: Tensor, attended: Tensor, recalled: Tensor) -> Tensor:
        """-> [B, T, W]."""
        attended = rms(attended) * self.attention_gain.to(x.dtype)
        recalled = rms(recalled) * self.memory_gain.to(x.dtype)
        if self.linear is None:
            return attended * recalled.sigmoid()
        share = self.share(x).repeat_interleave(x.shape[-1] // self.heads, -1)
        return share * attended + (1 - share) * recalled

    def share(self, x: Tensor) -> Tensor:
        """The attention's share in each head, [B, T, H] in (0, 1); for reports, too."""
        if self.linear is None:
            raise ValueError("a multiplying gate shares nothing out")
        shares: Tensor = self.linear(x).sigmoid()
        return shares


class MagBlock(nn.Module):
    """x [B, P + T, W] -> [B, P + T, W]: window attention beside memory, a gate, SwiGLU."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(
            config.width, heads=config.heads, window=config.window, causal=config.causal
        )
        self.memory: NeuralMemory | None = None
        self.gate: MemoryGate | None = None
        if config.use_memory:
            self.memory = NeuralMemory(config.width, config.memory, causal=config.causal)
            self.gate = MemoryGate(config)
        self.feed_forward = SwiGLU(config.width, config.hidden_width)

    def forward(
        self,
        x: Tensor,
        prefix: int = 0,
        documents: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        """The first `prefix` rows are persistent tokens; `documents` int64 [B, T] or None.

        `angles` are the backbone's, where they are at hand.
        """
        attended = self.attention(x, prefix=prefix, documents=documents, angles=angles)
        recalled = None
        if self.memory is not None:
            recalled = self.memory(x, prefix=prefix, documents=documents)
        return self._joined(x, attended, recalled)

    def prefill(self, x: Tensor, *, prefix: int, capacity: int) -> tuple[Tensor, BlockCache]:
        """`forward`, and the cache after it; without a window for up to `capacity` tokens."""
        attended, attention = self.attention.prefill(x, prefix=prefix, capacity=capacity)
        recalled, memory = None, None
        if self.memory is not None:
            recalled, memory = self.memory.prefill(x, prefix=prefix)
            memory = _owned(memory)
        return self._joined(x, attended, recalled), BlockCache(attention, memory)

    def step(
        self, x: Tensor, cache: BlockCache, position: Position, place: Place | None = None
    ) -> tuple[Tensor, BlockCache]:
        """One more token x [B, 1, W], the `position`-th (from 0, persistent ones not counted).

        `place` is that of attention's step. No tensor of the cache is allocated anew.
        """
        attended, attention = self.attention.step(x, cache.attention, place)
        recalled = None
        if self.memory is not None and cache.memory is not None:
            recalled, memory = self.memory.step(x, cache.memory, position)
            _keep(cache.memory, memory)
        return self._joined(x, attended, recalled), BlockCache(attention, cache.memory)

    def _joined(self, x: Tensor, attended: Tensor, recalled: Tensor | None) -> Tensor:
        if self.gate is not None and recalled is not None:
            attended = self.gate(x, attended, recalled)
        x = rms(x + attended)
        return rms(x + self.feed_forward(x))


def _owned(cache: MemoryCache) -> MemoryCache:
    """The same numbers in tensors of their own, which can be written in place."""
    state = type(cache.state)(*(each.clone() for each in cache.state))
    return MemoryCache(state, cache.tail.clone())


def _keep(cache: MemoryCache, after: MemoryCache) -> None:
    """Write what the memory holds after a token into `cache`."""
    pairs = [*zip(cache.state, after.state, strict=True), (cache.tail, after.tail)]
    # backwards: what a state froze last may be its running weights, which come before
    for kept, fresh in reversed(pairs):
        if fresh is not kept:
            kept.copy_(fresh)


class MixingBlock(nn.Module):
    """x [B, P + T, W] -> same: a SwiGLU over a fixed number of positions, then SwiGLU.

    TRM's form without attention. It normalises over the positions, as the official code does.
    """

    def __init__(self, config: BackboneConfig, positions: int) -> None:
        super().__init__()
        self.mix_positions = SwiGLU(positions, mixing_width(positions))
        self.feed_forward = SwiGLU(config.width, config.hidden_width)

    def forward(
        self,
        x: Tensor,
        prefix: int = 0,
        documents: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        """All positions are alike; raises ValueError for packed `documents`."""
        if documents is not None:
            raise ValueError("mixing over positions takes no packed documents")
        flipped = x.transpose(1, 2)
        x = rms(flipped + self.mix_positions(flipped)).transpose(1, 2)
        return rms(x + self.feed_forward(x))


def mixing_width(positions: int) -> int:
    """Inner width of the SwiGLU over positions: 8/3 of them, up to a multiple of 256 (TRM)."""
    return -(-round(4 * positions * 2 / 3) // 256) * 256


class Backbone(nn.Module):
    """The blocks, one after another: the one network that the recursion applies."""

    def __init__(self, config: BackboneConfig, positions: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                MagBlock(config) if config.mixer == "attention" else MixingBlock(config, positions)
                for _ in range(config.layers)
            ]
        )

    def forward(
        self,
        x: Tensor,
        prefix: int = 0,
        documents: Tensor | None = None,
        angles: Angles | None = None,
    ) -> Tensor:
        """x [B, P + T, W] -> [B, P + T, W]; `angles` of such an x save every block its own."""
        for block in self.blocks:
            x = block(x, prefix, documents, angles)
        return x

    def angles(self, x: Tensor, prefix: int, documents: Tensor | None) -> Angles | None:
        """The rotary angles of x [B, P + T, W], the same in all blocks; None without attention."""
        # by name: a block that is compiled is of another class
        attention: SelfAttention | None = getattr(self.blocks[0], "attention", None)
        return None if attention is None else attention.angles_of(x, prefix, documents)
