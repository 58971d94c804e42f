"""Titans' memory as a gate: attention and long-term memory side by side (Titans, section 4.2).

B batch, P persistent tokens, T tokens, W width, H heads, D = W / H head width. A block is
post-norm, as in TRM: x = rms(x + mix(x)), x = rms(x + swiglu(x)). The memory begins anew in
each call, so a block is a pure function of its input; where `memory.write` is "first_pass" what
the first application in a latent recursion wrote is a result of that call, and an input of the
later ones.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .attention.attention import Layout, Place, SelfAttention
from .attention.window_mask import check_window
from .block_cache import BlockCache, recall_all, recall_next
from .layers.feed_forward import SwiGLU, rms
from .memory.config import MemoryConfig
from .memory.neural_memory import NeuralMemory
from .memory.queries import Recorded, query_memory
from .memory.state import Position
from .memory.written import Written


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
        if self.memory.write == "first_pass" and not (self.causal and self.use_memory):
            raise ValueError(
                "model.backbone.memory.write is 'first_pass', which is for causal models with a "
                f"memory: got causal {self.causal} and use_memory {self.use_memory}"
            )
        if self.mixer == "attention":
            self._check_parts()

    def _check_parts(self) -> None:
        """Check what attention and memory ask of a block's sizes, before any is built."""
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(
                "model.backbone.width must be an even multiple of model.backbone.heads, "
                f"got width {self.width} and heads {self.heads}"
            )
        check_window(self.window, self.causal)
        if not self.use_memory:
            return
        if self.memory.gradient == "stale" and not self.causal:
            raise ValueError(
                "model.backbone.memory.gradient is 'stale', which is a form for causal models: "
                "model.backbone.causal is False"
            )
        if self.width % self.memory.heads:
            raise ValueError(
                f"model.backbone.width ({self.width}) must be a multiple of "
                f"model.backbone.memory.heads ({self.memory.heads})"
            )


class MemoryGate(nn.Module):
    """The gate of MAG: attention y and memory m, [B, T, W] each, joined for tokens x.

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
        return self.joined(None if self.linear is None else self.share(x), attended, recalled)

    def joined(self, share: Tensor | None, attended: Tensor, recalled: Tensor) -> Tensor:
        """With the attention's `share` [B, T, H]; None where the gate multiplies."""
        attended = rms(attended) * self.attention_gain.to(attended.dtype)
        recalled = rms(recalled) * self.memory_gain.to(recalled.dtype)
        if share is None:
            return attended * recalled.sigmoid()
        share = share.repeat_interleave(attended.shape[-1] // self.heads, -1)
        return share * attended + (1 - share) * recalled

    def share(self, x: Tensor) -> Tensor:
        """The attention's share in each head, [B, T, H] in (0, 1); for reports, too."""
        if self.linear is None:
            raise ValueError("a multiplying gate shares nothing out")
        shares: Tensor = self.linear(x).sigmoid()
        return shares


class MagBlock(nn.Module):
    """The MAG block, x [B, P + T, W] -> same: window attention beside memory, a gate, SwiGLU."""

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
        layout: Layout | None = None,
        written: Written | None = None,
    ) -> Tensor | tuple[Tensor, Written]:
        """The first `prefix` rows are persistent tokens; `documents` int64 [B, T] or None.

        `layout` is the backbone's, where it is at hand. A memory that is written in the first
        pass alone gives what it wrote beside the output, and later passes bring it as `written`.
        """
        attended = self.attention(x, prefix=prefix, documents=documents, layout=layout)
        if self.memory is None:
            return self._joined(x, attended, None)
        if self.memory.config.write == "every_pass":
            recalled = self.memory(x, prefix=prefix, documents=documents)
            return self._joined(x, attended, recalled)
        if written is None:
            recalled, _, written = self.memory.record(x, prefix, documents)
        else:
            recalled, _ = query_memory(self.memory, x, written, prefix=prefix, documents=documents)
        return self._joined(x, attended, recalled), written

    def prefill(
        self,
        x: Tensor,
        *,
        prefix: int,
        capacity: int,
        layout: Layout | None = None,
        recorded: Recorded | None = None,
    ) -> tuple[Tensor, BlockCache, Recorded | None]:
        """`forward`, and the cache after it; without a window for up to `capacity` tokens.

        The last value is what later passes of the same latent recursion want as `recorded`.
        """
        attended, attention = self.attention.prefill(
            x, prefix=prefix, capacity=capacity, layout=layout
        )
        if self.memory is None:
            return self._joined(x, attended, None), BlockCache(attention, None), None
        recalled, memory, recorded = recall_all(self.memory, x, prefix, recorded)
        return self._joined(x, attended, recalled), BlockCache(attention, memory), recorded

    def step(
        self, x: Tensor, cache: BlockCache, position: Position, place: Place | None = None
    ) -> tuple[Tensor, BlockCache]:
        """One more token x [B, 1, W], the `position`-th (from 0, persistent ones not counted).

        `place` is that of attention's step. No tensor of the cache is allocated anew.
        """
        attended, attention = self.attention.step(x, cache.attention, place)
        recalled = None
        if self.memory is not None and cache.memory is not None:
            recalled = recall_next(self.memory, x, cache.memory, position)
        return self._joined(x, attended, recalled), BlockCache(attention, cache.memory)

    def _joined(self, x: Tensor, attended: Tensor, recalled: Tensor | None) -> Tensor:
        if self.gate is not None and recalled is not None:
            attended = self.gate(x, attended, recalled)
        x = rms(x + attended)
        return rms(x + self.feed_forward(x))


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
        layout: Layout | None = None,
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
