"""What a causal memory wrote, chunk by chunk, so that queries may read it again and again.

N rows (batch times heads), T tokens, G chunks of C tokens, D input width, V output width. With
what is kept here a query of token t reads the weights M_t that the memory had just after that
token, for all tokens at once: no loop over chunks, no solve, no key, value or gate. Notation as
in gates.py and linear.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..layers.document_layout import DocumentLayout
from .features import features
from .gates import Decay, Gates, chunked, decay_of


class Writes(NamedTuple):
    """Writes of G chunks into one layer, kept so that later queries can read them."""

    inputs: Tensor
    """[N, G, C, D] of the layer: keys, or their features."""
    errors: Tensor
    """[N, G, C, V] at its output."""
    start: Tensor
    """[N, G, 2 D, V] M and S with which each chunk begins."""
    keep: Tensor
    """[N, G, C] share of M in M_t."""
    carry: Tensor
    """[N, G, C] share of S in M_t."""
    spread: Tensor
    """[N, G, C, C] weight of each token's write in M_t, theta included."""


class DeepWrites(NamedTuple):
    """What G chunks wrote into two layers of F features."""

    first: Tensor | Writes
    """"exact": W1 [N, G, D, F], which stands still within a chunk; "stale": what it was given."""
    second: Writes


class Written(NamedTuple):
    """All that a sequence wrote; a value that goes from one application of a block to the next."""

    chunks: tuple[Writes | DeepWrites, ...]
    """The whole chunks together, and what remains of the tokens as one shorter chunk."""
    layout: DocumentLayout | None = None
    """Where tokens stand if documents are packed."""


def read_layer(q: Tensor, writes: Writes) -> Tensor:
    """q_t M_t of each token's query: [N, G, C, D] -> [N, G, C, V]."""
    mix = (q @ writes.inputs.mT) * writes.spread
    return twice(q, writes.keep, writes.carry) @ writes.start - mix @ writes.errors


def read_chunks(q: Tensor, writes: Writes | DeepWrites) -> Tensor:
    """What the whole memory gives for queries [N, G, C, D]: [N, G, C, V]."""
    if isinstance(writes, Writes):
        return read_layer(q, writes)
    if isinstance(writes.first, Writes):
        hidden = silu(read_layer(q, writes.first))
    else:
        hidden = features(q @ writes.first)
    return read_layer(hidden, writes.second)


def read_written(q: Tensor, written: Written) -> list[Tensor]:
    """Read with queries [N, T, D] what the tokens at the same places wrote: [N, T, V]."""
    layout = written.layout
    if layout is not None:
        q = layout.spread(q)
    reads, begin = [], 0
    for writes in written.chunks:
        count, size = (writes if isinstance(writes, Writes) else writes.second).keep.shape[1:]
        part = q[:, begin : begin + count * size]
        reads.append(read_chunks(chunked(part, size), writes).flatten(1, 2))
        begin += count * size
    return reads if layout is None else [layout.gather(torch.cat(reads, 1))]


def shared(inputs: Tensor, errors: Tensor, start: Tensor, decay: Decay) -> Writes:
    """`Writes` of inputs, errors and chunks' starts [N, G, ...]."""
    return Writes(inputs, errors, start, decay.keep, decay.carry, decay.spread)


def writes_of(inputs: Tensor, errors: Tensor, starts: Tensor, gates: Gates, chunk: int) -> Writes:
    """`Writes` of tokens in whole chunks: inputs [N, T, D], errors [N, T, V].

    `starts` [N, G, 2 V, D] are those of the chunks, as cpu/linear_chunk.py has them.
    """
    weights, momentum = starts.mT.chunk(2, -1)
    decay = decay_of(Gates(*(chunked(gate, chunk) for gate in gates)))
    start = torch.cat([weights, momentum], -2)
    return shared(chunked(inputs, chunk), chunked(errors, chunk), start, decay)


def twice(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """[first x, second x] [..., C, 2 D]: rows that read M and S at once."""
    return torch.cat([first[..., None] * x, second[..., None] * x], -1)
