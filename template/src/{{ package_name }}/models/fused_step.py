"""A causal block that decodes: one token by one product of matrices in, and one out.

B batch, W width, H heads, D = W / H head width, N = B H rows. A token is bound by how many kernels
it launches, as a grid is at batch 1 (fused_block.py): attention, memory and both kinds of gates
project the same input, and what attention and memory end with are two products of one shape.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .attention import Place
from .block_cache import BlockCache, keep_token
from .decoding import BlockStep, causal_blocks
from .feed_forward import rms
from .full_model import RecursiveReasoner
from .memory_deep import Position
from .memory_queries import QueryCache, read_next
from .projection import projected
from .titans_mag import MagBlock


class FusedStep(nn.Module):
    """The `step` of a causal `MagBlock` with memory, for weights that stay.

    It holds copies of some of the block's weights, and the block's own modules for the rest. The
    gates' logits come in the block's dtype, where the block has them in at least float32. Raises
    ValueError for a block that is not causal, and for one without memory.
    """

    def __init__(self, block: MagBlock) -> None:
        super().__init__()
        if block.memory is None or block.gate is None or not block.memory.causal:
            raise ValueError("only the step of a causal block with memory can be fused")
        self.attention, self.memory = block.attention, block.memory
        self.gate, self.feed_forward = block.gate, block.feed_forward
        width = block.memory.out.in_features
        # a pass that does not write wants the rows up to the queries' alone
        linears = [self.attention.qkv, self.gate.linear, self.memory.qkv, self.memory.gates.linear]
        given = [each for each in linears if each is not None]
        sizes = [each.out_features for each in given]
        self.shares = 0 if self.gate.linear is None else self.gate.linear.out_features
        self.sizes = [3 * width, self.shares, width, 2 * width, sizes[-1]]
        self.asking = sum(self.sizes[:3])
        weight = torch.cat([each.weight for each in given]).detach()
        bias = weight.new_zeros(len(weight))
        for part, each in zip(torch.split(bias, sizes), given, strict=True):
            if each.bias is not None:
                part.copy_(each.bias.detach())
        outs = torch.stack([self.attention.out.weight, self.memory.out.weight]).detach()
        self.weight, self.bias, self.outs = map(nn.Parameter, (weight, bias, outs))

    def step(
        self, x: Tensor, cache: BlockCache, position: Position, place: Place | None = None
    ) -> tuple[Tensor, BlockCache]:
        """`MagBlock.step`: one more token x [B, 1, W] -> the block's output [B, 1, W]."""
        place = place or self.attention.next_place(cache.attention)
        rows = self.asking if isinstance(cache.memory, QueryCache) else len(self.weight)
        columns = projected(x, self.weight[:rows], self.bias[:rows])
        qkv, share, projections = columns.tensor_split([self.sizes[0], sum(self.sizes[:2])], -1)
        heads, attention = self.attention.attend_next(
            self.attention.by_head(qkv), cache.attention, place
        )
        read = self._read(projections, cache, position)
        # [2, B, W] by [2, W, W]
        both = torch.stack([heads.flatten(1), self.memory.joined(read, x)[:, 0]])
        attended, recalled = torch.bmm(both, self.outs.mT)[:, :, None].unbind(0)
        mixed = self.gate.joined(share.sigmoid() if self.shares else None, attended, recalled)
        x = rms(x + mixed)
        return rms(x + self.feed_forward(x)), BlockCache(attention, cache.memory)

    def _read(self, projections: Tensor, cache: BlockCache, position: Position) -> Tensor:
        """What the memory's projections [B, 1, ...] read after their write, if any: [N, 1, D]."""
        memory, kept = self.memory, cache.memory
        if isinstance(kept, QueryCache):
            read, tail = read_next(memory, projections, kept)
            kept.tail.copy_(tail)
            return read
        if kept is None:
            raise ValueError("the cache is of a block without memory")
        width = sum(self.sizes[2:4])
        logits = projections[..., width:]
        gates = memory.gates.of_logits(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        read, after = memory.write_next(projections[..., :width], gates, kept, position)
        keep_token(kept, after)
        return read


Step = Callable[[FusedStep, Tensor, BlockCache, Position, Place | None], tuple[Tensor, BlockCache]]
"""`FusedStep.step`, or it compiled."""


def fused_steps(model: RecursiveReasoner, step: Step = FusedStep.step) -> BlockStep:
    """What stands for `MagBlock.step` in `decoding.step` and in a `GraphedDecoder` of this model.

    `step` may be `FusedStep.step` compiled, by `torch.compile(FusedStep.step, dynamic=False)`.
    Weights that change later do not count. Raises ValueError as `FusedStep` does.
    """
    own = {block: FusedStep(block) for block in causal_blocks(model)}

    def fused(
        block: MagBlock, x: Tensor, cache: BlockCache, position: Position, place: Place | None
    ) -> tuple[Tensor, BlockCache]:
        return step(own[block], x, cache, position, place)

    return fused
