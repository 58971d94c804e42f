"""Token by token through a causal reasoner, at the cost of one token each.

B batch, P persistent tokens, T tokens, V vocabulary. The depth is fixed: a token that stopped
early would leave later tokens nothing to attend to in the deeper passes. Each application of a
block in each pass sees its own past, so each has a cache of its own: supervision steps x
recursions x (n + 1) x layers of them; but for the memory's state where the first pass alone writes
it, which is one for all n + 1. All of it is allocated by `prefill`; a step writes in place, so its
time and its memory do not depend on how many tokens came before.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..attention.attention import Place
from ..block_cache import BlockCache
from ..full_model import RecursiveReasoner
from ..memory.queries import Recorded
from ..memory.state import Position
from ..titans_mag import MagBlock
from ..trm_wrapper import Begin, Net, deep_recursion

BlockStep = Callable[
    [MagBlock, Tensor, BlockCache, Position, Place | None], tuple[Tensor, BlockCache]
]
"""(block, x [B, 1, W], cache, position, place) -> (the block's output [B, 1, W], cache)."""


class DecodeState(NamedTuple):
    """State of decoding: what the tokens so far have left in all blocks' caches."""

    caches: tuple[BlockCache, ...]
    """In the order in which blocks are applied. They are written in place: a state that was
    handed in is not to be used again."""
    position: int
    """Tokens so far, persistent ones not counted."""


@torch.no_grad()
def prefill(
    model: RecursiveReasoner, tokens: Tensor, *, capacity: int = 0
) -> tuple[Tensor, DecodeState]:
    """Prefill tokens int64 [B, T], T >= 0, in parallel: logits [B, T, V], the state after.

    `capacity` is the longest sequence that a model without a window can go on to. Raises
    ValueError for a model that is not causal.
    """
    blocks = causal_blocks(model)
    prefix = model.config.persistent_tokens
    question = model.question(tokens)
    layout = blocks[0].attention.layout_of(question, prefix, None)
    caches: list[BlockCache] = []

    def begin() -> Net:
        recorded: list[Recorded | None] = [None] * len(blocks)

        def net(x: Tensor) -> Tensor:
            for layer, block in enumerate(blocks):
                x, cache, recorded[layer] = block.prefill(
                    x, prefix=prefix, capacity=capacity, layout=layout, recorded=recorded[layer]
                )
                caches.append(cache)
            return x

        return net

    answer = _refined(model, question, begin)
    return model.logits(answer[:, prefix:]), DecodeState(_in_step(caches), tokens.shape[1])


@torch.no_grad()
def step(
    model: RecursiveReasoner,
    token: Tensor,
    state: DecodeState,
    *,
    block_step: BlockStep = MagBlock.step,
) -> tuple[Tensor, DecodeState]:
    """Decode one token int64 [B]: its logits [B, V], and the state with it.

    `block_step` stands for `MagBlock.step`.
    """
    blocks = causal_blocks(model)
    place = blocks[0].attention.next_place(state.caches[0].attention)
    before = iter(state.caches)
    caches: list[BlockCache] = []

    def net(x: Tensor) -> Tensor:
        for block in blocks:
            x, cache = block_step(block, x, next(before), state.position, place)
            caches.append(cache)
        return x

    question = model.question(token[:, None], with_persistent=False)
    answer = _refined(model, question, lambda: net)
    return model.logits(answer)[:, 0], DecodeState(tuple(caches), state.position + 1)


def causal_blocks(model: RecursiveReasoner) -> list[MagBlock]:
    """The causal blocks, in the order of a pass; raises ValueError for a model without a past."""
    if not model.config.backbone.causal:
        raise ValueError("only a causal model goes token by token: model.backbone.causal is False")
    return [block for block in model.backbone.blocks if isinstance(block, MagBlock)]


def _in_step(caches: Sequence[BlockCache]) -> tuple[BlockCache, ...]:
    """The caches, which are all at the same token, with one count of it and one mask."""
    first = caches[0].attention
    return tuple(
        each._replace(attention=each.attention._replace(visible=first.visible, seen=first.seen))
        for each in caches
    )


def _refined(model: RecursiveReasoner, question: Tensor, begin: Begin) -> Tensor:
    states = model.initial(question)
    for _ in range(model.config.halting.max_steps):
        states = deep_recursion(begin, question, states, model.config.recursion)
    return states.answer
