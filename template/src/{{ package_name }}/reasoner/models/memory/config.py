"""Form and size of the long-term memory."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Form and size of the memory."""

    heads: int = 1
    """Independent memories; the width is shared out between them."""
    depth: int = 1
    """1: a matrix, updated exactly. 2: a two-layer network (ours; Titans' with `stale`)."""
    features: int = 128
    """depth 2: hidden width of a head's network."""
    gradient: Literal["exact", "stale"] = "exact"
    """depth 2: exact last layer, or all gradients at the chunk's start as in the paper."""
    chunk: int = 64
    """Tokens that are computed together."""
    write: Literal["every_pass", "first_pass"] = "every_pass"
    """causal: write in each application of the network, or in the first of each latent recursion
    alone; the later ones then read what that wrote."""
    convolution: int = 4
    """Taps of the convolution after each projection; 1 looks at the token alone."""
    momentum: bool = True
    """Carry past surprise on (eta)."""
    forgetting: bool = True
    """Let old content fade (alpha)."""
    set_steps: int = 1
    """grids: inner steps of gradient descent on all tokens."""

    def __post_init__(self) -> None:
        for name in ("heads", "features", "chunk", "convolution", "set_steps"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"model.backbone.memory.{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.depth not in (1, 2):
            raise ValueError(f"model.backbone.memory.depth must be 1 or 2, got {self.depth}")
        if self.gradient == "stale" and self.depth == 1:
            raise ValueError(
                "model.backbone.memory.gradient is 'stale', which is a form of depth 2, got depth 1"
            )
