"""A causal block that decodes: one token by one product of matrices in, and one out.

B batch, W width, H heads, D = W / H head width, N = B H rows. A token is bound by how many kernels
it launches, as a grid is at batch 1 (fused_block.py): attention, memory and both kinds of gates
project the same input, and what attention and memory end with are two products of one shape.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..attention.attention import AttentionCache, Place
from ..block_cache import BlockCache, take_token
from ..full_model import RecursiveReasoner
from ..layers.compile_time import known_when_compiling
from ..layers.feed_forward import rms
from ..layers.projection import projected
from ..layers.triton_support import TILES, current_gpu, kernels_run, on_kernels_gpu
from ..layers.twin_check import agrees, apart
from ..memory.config import MemoryConfig
from ..memory.gpu.linear_launch import CHUNK, ROWS, WIDTH, normal_numbers
from ..memory.neural_memory import MemoryCache
from ..memory.queries import QueryCache
from ..memory.sequential import begins_chunk, freeze
from ..memory.state import DeepState, Position
from ..titans_mag import BackboneConfig, MagBlock
from .decoding import BlockStep, causal_blocks
from .fused_block import stacked


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
        self.shares = 0 if self.gate.linear is None else self.gate.linear.out_features
        self.sizes = [3 * width, self.shares, width, 2 * width, given[-1].out_features]
        self.asking = sum(self.sizes[:3])
        self.weight, self.bias = stacked(given)
        outs = torch.stack([self.attention.out.weight, self.memory.out.weight]).detach()
        self.outs = nn.Parameter(outs)

    def step(
        self, x: Tensor, cache: BlockCache, position: Position, place: Place | None = None
    ) -> tuple[Tensor, BlockCache]:
        """`MagBlock.step`: one more token x [B, 1, W] -> the block's output [B, 1, W]."""
        place = place or self.attention.next_place(cache.attention)
        rows = self.columns_for(cache)
        columns = projected(x, self.weight[:rows], self.bias[:rows])
        heads = self.heads(columns, cache, position, place)
        # [2, B, W] by [2, W, W]
        attended, recalled = torch.bmm(heads, self.outs.mT)[:, :, None].unbind(0)
        share = columns[..., self.sizes[0] :][..., : self.shares]
        mixed = self.gate.joined(share.sigmoid() if self.shares else None, attended, recalled)
        x = rms(x + mixed)
        after = BlockCache(self.attention.taken(cache.attention), cache.memory)
        return rms(x + self.feed_forward(x)), after

    def columns_for(self, cache: BlockCache) -> int:
        """How many a pass with this cache projects: one that asks alone wants no pairs."""
        return self.asking if isinstance(cache.memory, QueryCache) else len(self.weight)

    def heads(self, columns: Tensor, cache: BlockCache, position: Position, place: Place) -> Tensor:
        """What attention's heads and the memory's make of `columns`: [2, B, W].

        These are x times the weights, [B, 1, ...]; the cache takes the token.
        """
        kept = cache.memory
        if kept is None:
            raise ValueError("the cache is of a block without memory")
        config, keys = self.memory.config, cache.attention.all_keys
        if step_kernels_serve(columns, keys, kept.state, exact=config.gradient == "exact"):
            begins = isinstance(kept, MemoryCache) and begins_chunk(position, config.chunk)
            if begins and isinstance(kept.state, DeepState):
                freeze(kept.state)
            return self.heads_by_kernels(columns, cache.attention, kept, place)
        return self.heads_by_operators(columns, cache.attention, kept, position, place)

    def heads_by_operators(
        self,
        columns: Tensor,
        cache: AttentionCache,
        kept: MemoryCache | QueryCache,
        position: Position,
        place: Place,
    ) -> Tensor:
        """`heads` by torch."""
        qkv, pairs, logits = self._parts(columns)
        attended, _ = self.attention.attend_next(self.attention.by_head(qkv), cache, place)
        kind = torch.promote_types(logits.dtype, torch.float32)
        gates = functools.partial(self.memory.gates.of_logits, logits.to(kind))
        read = take_token(self.memory, pairs, gates, kept, position)
        return torch.stack([attended.flatten(1), self.memory.joined(read, columns)[:, 0]])

    def heads_by_kernels(
        self, columns: Tensor, cache: AttentionCache, kept: MemoryCache | QueryCache, place: Place
    ) -> Tensor:
        """`heads` by Triton, for a token that begins no chunk; see fused_step_cuda.py."""
        from .fused_step_launch import attend_next, recall_next

        qkv, pairs, logits = self._parts(columns)
        out = columns.new_empty(2, len(columns), qkv.shape[-1] // 3)
        attend_next(qkv, cache, place, out[0])
        recall_next(pairs, logits, self.memory, kept, out[1])
        return out

    def _parts(self, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For attention; the memory's pairs, or queries alone; its gates' logits, or none."""
        at = [self.sizes[0], sum(self.sizes[:2]), sum(self.sizes[:4])]
        qkv, _, pairs, logits = torch.tensor_split(columns, at, -1)
        return qkv, pairs, logits


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


def step_kernels_serve(
    columns: Tensor, keys: Tensor, state: Sequence[Tensor], *, exact: bool
) -> bool:
    """Whether kernels do what a decoded token does between its projections, columns [B, 1, ...].

    `keys` [B, H, R, D] are attention's cache, `state` the memory's, whose gradients are `exact`.
    A head of either fits a program, all lie row by row, and nobody asks for a gradient, which the
    kernels have not.
    """
    weights, widths = state[0], {keys.shape[-1], *state[0].shape[1:]}
    fits = widths <= {*TILES} and weights.shape[1] * weights.shape[2] <= 8192
    kinds = columns.dtype == keys.dtype and weights.dtype == torch.float32
    fits = fits and all(each.is_contiguous() for each in (keys, *state))
    formula = exact or len(state) == 2  # a linear memory has one
    served = fits and kinds and formula and on_kernels_gpu(columns)
    return served and not torch.is_grad_enabled() and _runs()


@known_when_compiling
def _runs() -> bool:
    return kernels_run() and step_kernels_agree(current_gpu())


@functools.cache
def step_kernels_agree(device: torch.device) -> bool:
    """Whether the kernels of a decoded token give torch's numbers; a warning says where not."""
    return agrees(device, _errors, "the kernels of a decoded token do not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    normal, of_memory = normal_numbers(device), MemoryConfig(heads=2, depth=2, features=128)
    config = BackboneConfig(width=2 * WIDTH, heads=2, causal=True, window=CHUNK, memory=of_memory)
    with torch.random.fork_rng(devices=[]):
        block = MagBlock(config)
    fused = FusedStep(block.to(device).eval())
    keys, values = normal(2, ROWS, 2, CHUNK, WIDTH)
    seen = torch.full_like(keys[0, 0, 0, 0], CHUNK // 2, dtype=torch.int64)
    visible = torch.arange(CHUNK, device=keys.device) < seen
    attention = AttentionCache(keys, values, visible, seen, prefix=0, room=0)
    place = block.attention.next_place(attention)
    first, second = (2 * ROWS, WIDTH, of_memory.features), (2 * ROWS, of_memory.features, WIDTH)
    state = DeepState(*(normal(*shape) for shape in (first, first, second, second, first, second)))
    taps = of_memory.convolution - 1
    kinds: tuple[MemoryCache | QueryCache, ...] = (
        MemoryCache(state, normal(ROWS, taps, 3 * config.width)),
        QueryCache(state, normal(ROWS, taps, config.width)),
    )
    for kept in kinds:
        columns = normal(ROWS, 1, fused.columns_for(BlockCache(attention, kept)))
        same = copy.deepcopy(attention), copy.deepcopy(kept)
        found = fused.heads_by_kernels(columns, attention, kept, place)
        exact = fused.heads_by_operators(columns, *same, None, place)
        both = zip(_floats(found, attention, kept), _floats(exact, *same), strict=True)
        yield "a decoded token", max(apart(*each) for each in both)


def _floats(*found: Any) -> list[Tensor]:
    """The floating-point tensors of a decoded token's caches."""
    leaves = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
    return [each for each in leaves if each.is_floating_point()]
