"""What decoding keeps of the tokens so far, for one block in one pass, and how a token changes it.

B batch, P persistent tokens, T tokens, W width.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .attention.attention import AttentionCache
from .memory.gates import Gates
from .memory.neural_memory import MemoryCache, NeuralMemory
from .memory.queries import QueryCache, Recorded, project_queries, query_memory, read_next
from .memory.state import Position

ROW_BY_ROW = {"memory_format": torch.contiguous_format}
"""How what decoding keeps lies in memory: kernels go by it."""


class BlockCache(NamedTuple):
    """Cache of one block while decoding: attention's and the memory's, written in place."""

    attention: AttentionCache
    memory: MemoryCache | QueryCache | None
    """A `QueryCache` where an earlier pass of the latent recursion has written the memory."""


def recall_all(
    memory: NeuralMemory, x: Tensor, prefix: int, recorded: Recorded | None
) -> tuple[Tensor, MemoryCache | QueryCache, Recorded | None]:
    """What x [B, P + T, W] recalls, the memory's cache after it, and what later passes need.

    `recorded` is what the first pass gave them. Raises ValueError for a memory that is not causal.
    """
    if recorded is not None:
        recalled, tail = query_memory(memory, x, recorded.written, prefix=prefix)
        return recalled, QueryCache(recorded.state, tail.clone(**ROW_BY_ROW)), recorded
    if memory.config.write == "every_pass":
        recalled, cache = memory.prefill(x, prefix=prefix)
        return recalled, _owned(cache), None
    recalled, cache, written = memory.record(x, prefix, None)
    cache = _owned(cache)
    return recalled, cache, Recorded(written, cache.state)


def recall_next(
    memory: NeuralMemory, x: Tensor, cache: MemoryCache | QueryCache, position: Position
) -> Tensor:
    """What one more token x [B, 1, W] recalls, after its write if this is the pass that writes."""
    asks = isinstance(cache, QueryCache)
    projected = project_queries(memory, x) if asks else memory.qkv(x)
    gates = functools.partial(memory.gates, x)
    return memory.output(take_token(memory, projected, gates, cache, position), x)


def take_token(
    memory: NeuralMemory,
    projected: Tensor,
    gates: Callable[[], Gates],
    cache: MemoryCache | QueryCache,
    position: Position,
) -> Tensor:
    """`recall_next` between its projections: [B, 1, 3 W], or queries [B, 1, W] -> [N, 1, D].

    `gates` [N, 1] are asked for by a pass that writes.
    """
    if isinstance(cache, QueryCache):
        read, tail = read_next(memory, projected, cache)
        cache.tail.copy_(tail)
        return read
    read, after = memory.write_next(projected, gates(), cache, position)
    _keep(cache, after)
    return read


def _owned(cache: MemoryCache) -> MemoryCache:
    """Copy a cache's numbers into tensors of their own, which can be written in place."""
    state = type(cache.state)(*(each.clone(**ROW_BY_ROW) for each in cache.state))
    return MemoryCache(state, cache.tail.clone(**ROW_BY_ROW))


def _keep(cache: MemoryCache, after: MemoryCache) -> None:
    """Write what the memory holds after a token into `cache`."""
    pairs = [*zip(cache.state, after.state, strict=True), (cache.tail, after.tail)]
    # backwards: what a state froze last may be its running weights, which come before
    for kept, fresh in reversed(pairs):
        if fresh is not kept:
            kept.copy_(fresh)
