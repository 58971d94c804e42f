"""Launches of the kernels of fused_step_cuda.py: what a decoded token does between projections.

B batch, R rows of a cache, W width, H heads, D = W / H head width.
"""

import torch
from torch import Tensor

from ..attention.attention import AttentionCache, Place
from ..memory.neural_memory import MemoryCache, NeuralMemory
from ..memory.queries import QueryCache

BLOCK = 128
"""Rows of a cache that a program attends to at a time."""


@torch.library.custom_op(
    f"{__package__.replace('.', '_')}::attend_next", mutates_args=("keys", "values", "out")
)
def _attend(
    columns: Tensor, keys: Tensor, values: Tensor, row: Tensor, cos: Tensor, sin: Tensor,
    unseen: Tensor, out: Tensor,
) -> None:  # fmt: skip
    """A custom op: what is compiled around it calls it as it is."""
    from .fused_step_cuda import attend_kernel

    batch, heads, rows, width = keys.shape
    with torch.cuda.device_of(columns):  # type: ignore[no-untyped-call]
        attend_kernel[(batch * heads,)](
            columns, keys, values, row, cos, sin, unseen, out, rows, heads, columns.stride(0),
            D=width, BLOCK=BLOCK, num_warps=8,
        )  # fmt: skip


@torch.library.custom_op(
    f"{__package__.replace('.', '_')}::recall_next", mutates_args=("tail", "state", "out")
)
def _recall(
    columns: Tensor, logits: Tensor, tail: Tensor, taps: Tensor, norm: Tensor, out: Tensor,
    state: list[Tensor], heads: int, chunk: int, writes: bool, momentum: bool, forgetting: bool,
) -> None:  # fmt: skip
    """`state` as a `DeepState` or a `LinearState` has it: the latter has nothing but the second."""
    from .fused_step_cuda import recall_kernel

    deep, some = len(state) > 2, state[0]
    layers = state if deep else [some, some, *state, some, some]
    rows, inner, width = layers[2].shape
    with torch.cuda.device_of(columns):  # type: ignore[no-untyped-call]
        recall_kernel[(rows,)](
            columns, logits, tail, taps, norm, out, *layers, heads, columns.stride(0),
            tail.shape[-1], chunk, D=width, F=inner, K=taps.shape[1], WRITES=writes, DEEP=deep,
            MOMENTUM=momentum, FORGETTING=forgetting, num_warps=8,
        )  # fmt: skip


def attend_next(qkv: Tensor, cache: AttentionCache, place: Place, out: Tensor) -> None:
    """`SelfAttention.attend_next` of projections [B, 1, 3 W], into `out` [B, W]."""
    angles = place.cos.contiguous(), place.sin.contiguous()
    _attend(qkv, cache.all_keys, cache.all_values, place.row, *angles, place.unseen, out)


def recall_next(
    pairs: Tensor,
    logits: Tensor,
    memory: NeuralMemory,
    cache: MemoryCache | QueryCache,
    out: Tensor,
) -> None:
    """What the memory recalls, before its last projection, into `out` [B, W].

    `pairs` [B, 1, 3 W] and `logits` are projections by its `qkv` and its gates; of a `QueryCache`
    queries [B, 1, W] are enough. The token begins no chunk. One row's numbers lie side by side.
    """
    gates, writes = memory.gates, isinstance(cache, MemoryCache)
    given = (pairs, logits, cache.tail, memory.convolution.weight, memory.norm, out, [*cache.state])
    sizes = memory.config.heads, memory.config.chunk
    _recall(*given, *sizes, writes, gates.momentum, gates.forgetting)
