"""Launches of the kernel of memory_set_cuda.py: one an inner step for gradients, one for the read.

B batch, N tokens, W width, H heads. In float32 throughout, whatever is loaded.
"""

from typing import Any

import torch
from torch import Tensor

from ..neural_memory import NeuralMemory

BLOCK = 32
"""Tokens of a program."""


def _precision(x: Tensor) -> str:
    """How Triton multiplies what was projected to x.

    Three products of TF32 parts err by about 1e-6, float32's own rounding, and use tensor cores,
    which "ieee" does not; what was rounded to 16 bits before has fewer bits than one TF32 keeps.
    """
    return "tf32x3" if x.dtype == torch.float32 else "tf32"


@torch.library.custom_op(f"{__package__.replace('.', '_')}::set_memory", mutates_args=())
def _recalled(
    pairs: Tensor, logits: Tensor, taps: Tensor, first: Tensor, second: Tensor, norm: Tensor,
    steps: int, momentum: bool, forgetting: bool,
) -> Tensor:  # fmt: skip
    """A custom op: what is compiled around it calls it as it is."""
    from .set_cuda import set_kernel

    (batch, rows), (heads, width, features) = pairs.shape[:2], first.shape
    parts = -(-rows // BLOCK)
    out = pairs.new_empty(batch, rows, heads * width)
    shares = (batch * heads, steps, parts, 2, width * features)
    gradients = torch.empty(shares, dtype=torch.float32, device=pairs.device)
    weights = (each.contiguous() for each in (taps, first, second, norm))
    given = (pairs, logits, *weights, gradients, out, rows, heads)
    strides = (*pairs.stride()[:2], *logits.stride()[:2])
    with torch.cuda.device_of(pairs):  # type: ignore[no-untyped-call]
        for step in range(steps + 1):
            set_kernel[(batch * heads, parts)](
                *given, *strides, D=width, F=features, K=taps.shape[1], STEP=step, STEPS=steps,
                MOMENTUM=momentum, FORGETTING=forgetting, SPAN=1 << (rows - 1).bit_length(),
                BLOCK=BLOCK, PRECISION=_precision(pairs), num_warps=8,
            )  # fmt: skip
    return out


@_recalled.register_fake
def _(pairs: Tensor, logits: Tensor, taps: Tensor, first: Tensor, *_: Any) -> Tensor:
    return pairs.new_empty(*pairs.shape[:2], first.shape[0] * first.shape[1])


def recalled(pairs: Tensor, logits: Tensor, memory: NeuralMemory) -> Tensor:
    """What `memory`, deep and written as a set, recalls, for its last projection: [B, N, W].

    `pairs` [B, N, 3 W] are the tokens projected by its `qkv`, `logits` [B, N, 4 H] by its gates.
    """
    gates, (first, second) = memory.gates, memory.initial
    given = (pairs, logits, memory.convolution.weight, first, second, memory.norm)
    steps = memory.config.set_steps
    out: Tensor = _recalled(*given, steps, gates.momentum, gates.forgetting)
    return out
