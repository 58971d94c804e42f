"""A grid's block at work: what it makes of one input, by one product of matrices.

B batch, P persistent tokens, T tokens, N = P + T rows, W width, H heads, D = W / H head width.
At batch 1 a block is bound by how many kernels it launches. Attention, memory and both kinds of
gates begin with a projection of the same input: their weights, one below the other, project it at
once. Queries and keys turn together, and on a GPU a kernel does all of the memory between its
projections (set_cuda.py).
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..attention.attention import Layout
from ..attention.rotary import Angles, turned
from ..attention.window_attention import attend
from ..full_model import RecursiveReasoner
from ..layers.feed_forward import rms
from ..layers.projection import projected
from ..memory.sets import set_memory
from ..titans_mag import MagBlock
from .set_launch import recalled, set_kernel_serves

ALIGNED = 64
"""Columns of a product of matrices on a GPU are best a multiple of this."""


def stacked(linears: Sequence[nn.Linear], *, spare: int = 0) -> tuple[nn.Parameter, nn.Parameter]:
    """Stack weights for a fused block, [rows, in], and the biases [rows], 0 for none.

    `spare` is how many rows of zeros come after them.
    """
    weights, biases = [], []
    for each in linears:
        weights.append(each.weight.detach())
        bias = each.bias if each.bias is not None else each.weight.new_zeros(each.out_features)
        biases.append(bias.detach())
    more = pad(torch.cat(weights), (0, 0, 0, spare)), pad(torch.cat(biases), (0, spare))
    return nn.Parameter(more[0]), nn.Parameter(more[1])


class FusedMagBlock(nn.Module):
    """The `MagBlock` of a grid with memory, x [B, N, W] -> [B, N, W]; for weights that stay.

    It holds copies of some of the block's weights, and the block's own modules for the rest. The
    gates' logits come in the block's dtype, where the block has them in at least float32.
    Raises ValueError for a causal block, whose memory is no set, and for one without memory.
    """

    def __init__(self, block: MagBlock) -> None:
        super().__init__()
        if block.memory is None or block.gate is None or block.memory.causal:
            raise ValueError("only the block of a grid with memory can be fused")
        self.attention, self.memory = block.attention, block.memory
        self.gate, self.feed_forward = block.gate, block.feed_forward
        linears = [self.attention.qkv, self.memory.qkv, self.memory.gates.linear]
        if self.gate.linear is not None:
            linears.append(self.gate.linear)
        self.sizes = [linear.out_features for linear in linears]
        self.sizes.append(-sum(self.sizes) % ALIGNED)
        self.weight, self.bias = stacked(linears, spare=self.sizes[-1])

    def forward(
        self,
        x: Tensor,
        prefix: int = 0,
        documents: Tensor | None = None,
        layout: Layout | None = None,
    ) -> Tensor:
        """The first `prefix` rows are persistent; ValueError for packed `documents`."""
        if documents is not None:
            raise ValueError("a memory that is written as a set takes no packed documents")
        columns = projected(x, self.weight, self.bias)
        qkv, pairs, gates, share, *_ = torch.split(columns, self.sizes, -1)
        layout = layout or self.attention.layout_of(x, prefix, None)
        mixed = self.gate.joined(
            None if self.gate.linear is None else share.sigmoid(),
            self._attended(qkv, layout.angles),
            self._recalled(x, pairs, gates),
        )
        x = rms(x + mixed)
        return rms(x + self.feed_forward(x))

    def _attended(self, qkv: Tensor, angles: Angles) -> Tensor:
        """[B, N, 3 W] -> [B, N, W]."""
        heads = self.attention.by_head(qkv)
        q, k = turned(heads[:2], *angles).unbind(0)
        out: Tensor = self.attention.out(attend(q, k, heads[2]).transpose(1, 2).flatten(2))
        return out

    def _recalled(self, x: Tensor, pairs: Tensor, gates: Tensor) -> Tensor:
        """Recall in a fused block, x [B, N, W]: pairs [B, N, 3 W], gates' logits -> [B, N, W]."""
        memory = self.memory
        depth, features = memory.config.depth, memory.config.features
        if set_kernel_serves(pairs, depth=depth, width=memory.head_width, features=features):
            out: Tensor = memory.out(recalled(pairs, gates, memory))
            return out
        kind = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            state = memory.initial_state(len(x))
            gated = memory.gates.of_logits(gates.to(kind))
            read, _ = set_memory(*memory.heads(pairs), gated, state, steps=memory.config.set_steps)
        return memory.output(read, x)


def fused(model: RecursiveReasoner) -> RecursiveReasoner:
    """A copy for solving, its blocks fused where they can be; the same results but for rounding.

    Its weights are not to change any more, and have other names than `model`'s.
    """
    own = copy.deepcopy(model)
    blocks = own.backbone.blocks
    for index, block in enumerate(blocks):
        if isinstance(block, MagBlock) and block.memory is not None and not block.memory.causal:
            blocks[index] = FusedMagBlock(block)
    return own
