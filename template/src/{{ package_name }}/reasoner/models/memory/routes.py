"""Which file computes a call of the memory: the one table of routes, by device, compiler and shape.

| call            | device | compiled | what else                    | computed by           |
|-----------------|--------|----------|------------------------------|-----------------------|
| whole layer     | CPU    | yes      | float32, one document        | native/whole_layer.py |
| heads           | CPU    | no       | at least float32, one doc.   | cpu/heads_by_block.py |
| scan            | GPU    | yes      | kernels run there            | left out of the graph |
| linear scan     | CPU    | either   |                              | chunk_operator.py     |
| linear scan     | GPU    | no       | no momentum, `fla` serves    | gpu/gated_delta.py    |
| linear scan     | GPU    | no       | float32, kernels serve       | linear.py, gpu/ sums  |
| exact deep scan | CPU    | either   |                              | chunk_operator.py     |
| exact deep scan | GPU    | no       | float32, kernels serve       | deep.py, gpu/ chunks  |
| anything else   | any    | either   |                              | linear.py, deep.py    |

The first row that fits is taken. A write as a set and a decoded token are sets.py's and
sequential.py's here; their kernels are chosen where models serve (serving/).
"""

import functools

import torch
from torch import Tensor, nn

from ..layers.short_convolution import ShortConvolution, activated
from ..layers.triton_support import on_kernels_gpu
from .chunk_operator import by_chunk_serves, deep_by_chunk, linear_by_chunk
from .cpu.heads_by_block import HeadsByBlock
from .deep import WriteChunk, deep_memory, exact_chunk
from .gates import Gates, check_chunks
from .gpu.gated_delta import delta_rule_serves, gated_delta_memory
from .gpu.linear_launch import kernels_may_serve, sums_for
from .heads import by_head
from .linear import linear_memory
from .state import DeepState, Gradient, LinearState
from .written import DeepWrites, Writes


def heads_of(
    projected: Tensor,
    convolution: ShortConvolution,
    heads: int,
    documents: Tensor | None,
    *,
    kinds: int = 3,
) -> tuple[Tensor, ...]:
    """Convolve, activate and split projections [B, T, kinds W] into heads [N, T, D] of length 1.

    With 3 kinds they are query, key and value, of which the value keeps its length; with 1 the
    query alone. `documents` int64 [B, T] or None.
    """
    taps = convolution.weight if kinds == 3 else convolution.weight[: projected.shape[-1]]
    if documents is None and HeadsByBlock.serves(projected):
        return HeadsByBlock.apply(projected, taps, heads, kinds)  # type: ignore[no-untyped-call]
    return unit_heads(convolution(projected, documents), heads, kinds)


def unit_heads(mixed: Tensor, heads: int, kinds: int = 3) -> tuple[Tensor, ...]:
    """Split convolved projections [B, T, kinds W] into heads [N, T, D], by torch's operators."""
    split = by_head(activated(mixed), heads, kinds).unbind(0)
    return (*(nn.functional.normalize(each, dim=-1) for each in split[:2]), *split[2:])


def scan_is_apart(q: Tensor) -> bool:
    """Whether compiled code leaves a scan over chunks to its own kernels, for queries [N, T, D].

    Compiled as a part of a block it would be unrolled over all chunks, without the kernels.
    """
    return torch.compiler.is_compiling() and on_kernels_gpu(q)


def scan_linear(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: LinearState,
    *,
    chunk: int,
    initial: LinearState | None = None,
    resets: Tensor | None = None,
    keep: bool = False,
    momentum: bool = True,
) -> tuple[Tensor, LinearState, list[Writes]]:
    """Compute `linear_memory` by the route that suits; `momentum` is whether eta may be above 0."""
    check_chunks(q.shape[1], chunk, initial, resets)
    if by_chunk_serves(q):
        return linear_by_chunk(
            q, k, v, gates, state, chunk=chunk, initial=initial, resets=resets, keep=keep
        )
    if not (momentum or keep) and delta_rule_serves(q, resets):
        return (*gated_delta_memory(q, k, v, gates, state), [])
    return linear_memory(
        q, k, v, gates, state,
        chunk=chunk, initial=initial, resets=resets, keep=keep, sums=sums_for(q, v),
    )  # fmt: skip


def scan_deep(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: DeepState,
    *,
    chunk: int,
    gradient: Gradient = "exact",
    initial: DeepState | None = None,
    resets: Tensor | None = None,
    keep: bool = False,
) -> tuple[Tensor, DeepState, list[DeepWrites]]:
    """Compute `deep_memory` by the route that suits."""
    check_chunks(q.shape[1], chunk, initial, resets)
    if gradient == "exact" and by_chunk_serves(q):
        return deep_by_chunk(
            q, k, v, gates, state, chunk=chunk, initial=initial, resets=resets, keep=keep
        )
    return deep_memory(
        q, k, v, gates, state,
        chunk=chunk, gradient=gradient, initial=initial, resets=resets, keep=keep,
        write=_exact_chunk(q, v) if gradient == "exact" else None,
    )  # fmt: skip


def _exact_chunk(q: Tensor, v: Tensor) -> WriteChunk:
    """The function that writes a chunk of the exact deep memory: compiled on a kernels' GPU."""
    if not kernels_may_serve(q):
        return exact_chunk
    from .gpu.deep_compiled import chunk_agrees, compiled_chunk  # it compiles when imported

    write = compiled_chunk if chunk_agrees(q.device) else exact_chunk
    return functools.partial(write, substitute=sums_for(q, v).substitute)
