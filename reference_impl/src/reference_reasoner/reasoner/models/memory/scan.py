"""A causal memory over whole sequences, packed or not: each token writes, then reads.

B batch, H heads, N = B H rows, T tokens, D head width.
"""

from typing import NamedTuple

from torch import Tensor

from ..layers.document_layout import DocumentLayout
from .gates import Gates
from .heads import Heads
from .routes import scan_deep, scan_linear
from .state import DeepState, Gradient, State
from .written import DeepWrites, Writes, Written


class Sequence(NamedTuple):
    """Inputs of a scan over whole sequences: heads, gates, documents, initial state."""

    heads: Heads
    """[N, T, D] each."""
    gates: Gates
    """[N, T] each."""
    state: State
    """That with which every document begins."""
    documents: Tensor | None
    """int64 [B, T], nondecreasing; None for one document a row."""
    chunk: int
    """Tokens that are computed together."""
    gradient: Gradient
    momentum: bool = True
    """Whether a gate eta may be above 0: a linear memory where none is has faster kernels."""
    keep: bool = False
    """Whether what is written is kept for later reads."""


def scan_memory(given: Sequence) -> tuple[Tensor, State, Written]:
    """Write and read whole sequences: the reads [N, T, D], the state after them, the writes.

    The state is of use without documents only; without `keep` nothing of the writes is kept.
    """
    (q, k, v), gates, state, documents, chunk, *_ = given
    layout = resets = None
    if documents is not None:
        by_row = documents.repeat_interleave(len(q) // len(documents), 0)
        layout = DocumentLayout.of(by_row, chunk)
        (q, k, v), resets = (layout.spread(each) for each in (q, k, v)), layout.resets
        gates = Gates(*(layout.spread(each) for each in gates))
    after: State
    kept: list[Writes] | list[DeepWrites] = []
    if isinstance(state, DeepState):
        read, after, kept = scan_deep(
            q, k, v, gates, state,
            chunk=chunk, gradient=given.gradient, initial=state, resets=resets, keep=given.keep,
        )  # fmt: skip
    else:
        read, after, kept = scan_linear(
            q, k, v, gates, state, chunk=chunk, initial=state, resets=resets, keep=given.keep,
            momentum=given.momentum,
        )  # fmt: skip
    written = Written(tuple(kept), layout) if given.keep else Written(())
    return (read if layout is None else layout.gather(read)), after, written
