"""The one network that the recursion applies: blocks, one after another.

B batch, P persistent tokens, T tokens, W width.
"""

from itertools import zip_longest

from torch import Tensor, nn

from .attention.attention import Layout, SelfAttention
from .memory.written import Written
from .titans_mag import BackboneConfig, MagBlock, MixingBlock
from .trm_wrapper import Net


class Backbone(nn.Module):
    """The backbone, a stack of blocks: x [B, P + T, W] -> same; mixing wants `positions`, P + T."""

    def __init__(self, config: BackboneConfig, positions: int) -> None:
        super().__init__()
        self.writes_once = config.memory.write == "first_pass"
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
        layout: Layout | None = None,
        written: tuple[Written, ...] = (),
    ) -> Tensor | tuple[Tensor, tuple[Written, ...]]:
        """x [B, P + T, W] -> [B, P + T, W]; the `layout` of such an x saves every block its own.

        Where the memory is written once, each block's `written` goes in and out as in `MagBlock`.
        """
        if not self.writes_once:
            for block in self.blocks:
                x = block(x, prefix, documents, layout)
            return x
        kept = []
        for block, before in zip_longest(self.blocks, written):
            x, after = block(x, prefix, documents, layout, before)
            kept.append(after)
        return x, tuple(kept)

    def recursion(self, prefix: int, documents: Tensor | None, layout: Layout | None) -> Net:
        """The network that one latent recursion applies; its first application may write."""
        if not self.writes_once:
            return lambda x: self(x, prefix, documents, layout)
        written: tuple[Written, ...] = ()

        def net(x: Tensor) -> Tensor:
            nonlocal written
            x, written = self(x, prefix, documents, layout, written)
            return x

        return net

    def layout(self, x: Tensor, prefix: int, documents: Tensor | None) -> Layout | None:
        """That of x [B, P + T, W], the same in all blocks; None without attention."""
        # by name: a block that is compiled is of another class
        attention: SelfAttention | None = getattr(self.blocks[0], "attention", None)
        return None if attention is None else attention.layout_of(x, prefix, documents)
