"""Later applications of the network, which ask the memory and leave what it holds as it is.

B batch, P persistent tokens, T tokens, W width, H heads, D = W / H head width, K taps, N = B H
rows. The first application in a latent recursion has written (`NeuralMemory.record`, `step`); a
later one projects and convolves its queries alone, and token t reads what the memory held after
token t of the first. Queries come first in `qkv` and in the convolution.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..layers.projection import projected
from .neural_memory import NeuralMemory
from .routes import heads_of, unit_heads
from .state import State
from .written import Written, read_written


class Recorded(NamedTuple):
    """Record that a prefill's first, writing application leaves to those that only query."""

    written: Written
    """For the tokens there are."""
    state: State
    """For those to come: the one that decoding writes in place."""


class QueryCache(NamedTuple):
    """What decoding keeps of the tokens so far for an application that does not write."""

    state: State
    """The first application's own, which writes it in place; here it is read."""
    tail: Tensor
    """[B, K - 1, W]: the last projected queries, for the convolution."""


def query_memory(
    memory: NeuralMemory,
    x: Tensor,
    written: Written,
    *,
    prefix: int = 0,
    documents: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """x [B, P + T, W] -> what it recalls of what as many tokens wrote, [B, P + T, W], and a tail.

    The tail is that of `QueryCache`. Persistent tokens read what every document begins with.
    """
    queries = project_queries(memory, x)
    before = _queries(memory, queries[:, :prefix], None)
    query = _queries(memory, queries[:, prefix:], documents)
    with torch.autocast(x.device.type, enabled=False):
        first = memory.read(before, memory.initial_state(len(x)))
        read = torch.cat([first, *read_written(query, written)], 1)
    return memory.output(read, x), memory.convolution.tail(queries[:, prefix:])


def read_next(memory: NeuralMemory, queries: Tensor, cache: QueryCache) -> tuple[Tensor, Tensor]:
    """What one more token's queries [B, 1, W] read, [N, 1, D], and the next tail.

    The first application has written the token; reads are for `NeuralMemory.output`.
    """
    mixed, tail = memory.convolution.step(queries, cache.tail)
    (query,) = unit_heads(mixed, memory.config.heads, 1)
    with torch.autocast(queries.device.type, enabled=False):
        return memory.read(query, cache.state), tail


def project_queries(memory: NeuralMemory, x: Tensor) -> Tensor:
    """Project tokens x [B, T, W] to queries of the memory."""
    return projected(x, memory.qkv.weight[: x.shape[-1]])


def _queries(memory: NeuralMemory, projected: Tensor, documents: Tensor | None) -> Tensor:
    """The queries' heads of projections [B, T, W], one document or some -> [N, T, D]."""
    return heads_of(projected, memory.convolution, memory.config.heads, documents, kinds=1)[0]
