"""A causal memory over whole sequences, packed or not: each token writes, then reads.

B batch, H heads, N = B H rows, T tokens, D head width.
"""

from torch import Tensor

from ..layers.document_layout import DocumentLayout
from .deep import DeepState, Gradient, deep_memory
from .gates import Gates
from .gpu.gated_delta import gated_delta_memory
from .gpu.gpu_kernels import delta_kernels_serve
from .linear import LinearState, linear_memory
from .written import DeepWrites, Writes, Written

State = LinearState | DeepState


def scan_memory(
    heads: tuple[Tensor, Tensor, Tensor],
    gates: Gates,
    state: State,
    documents: Tensor | None,
    chunk: int,
    gradient: Gradient,
    *,
    momentum: bool = True,
    keep: bool = False,
) -> tuple[Tensor, State, Written]:
    """Query, key and value [N, T, D] and `documents` int64 [B, T] or None -> reads, state, writes.

    `state` is that with which every document begins; the one after is of use without documents
    only. Without `keep` nothing of the writes is kept. `momentum` is whether a gate eta may be
    above 0: a linear memory where none is has faster kernels on a GPU.
    """
    layout = resets = None
    q, k, v = heads
    if documents is not None:
        by_row = documents.repeat_interleave(len(q) // len(documents), 0)
        layout = DocumentLayout.of(by_row, chunk)
        (q, k, v), resets = (layout.spread(each) for each in heads), layout.resets
        gates = Gates(*(layout.spread(each) for each in gates))
    after: State
    kept: list[Writes] | list[DeepWrites] = []
    if isinstance(state, DeepState):
        read, after, kept = deep_memory(
            q, k, v, gates, state,
            chunk=chunk, gradient=gradient, initial=state, resets=resets, keep=keep,
        )  # fmt: skip
    elif not (momentum or keep) and delta_kernels_serve(q, resets):
        read, after = gated_delta_memory(q, k, v, gates, state)
    else:
        read, after, kept = linear_memory(
            q, k, v, gates, state, chunk=chunk, initial=state, resets=resets, keep=keep
        )
    written = Written(tuple(kept), layout) if keep else Written(())
    return (read if layout is None else layout.gather(read)), after, written
