"""Launches of the kernel of a memory written as a set, and where it serves.

One launch an inner step for gradients, one for the read.

B batch, N tokens, W width, H heads. In float32 throughout, whatever is loaded.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..layers.compile_time import known_when_compiling
from ..layers.triton_support import TILES, current_gpu, kernels_run, on_kernels_gpu
from ..layers.twin_check import agrees, apart
from ..memory.config import MemoryConfig
from ..memory.gpu.linear_launch import CHUNK, ROWS, WIDTH, normal_numbers
from ..memory.neural_memory import NeuralMemory

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
    """Recall by the kernel what a deep memory written as a set gives to its last projection.

    `pairs` [B, N, 3 W] are the tokens projected by its `qkv`, `logits` [B, N, 4 H] by its gates;
    the result is [B, N, W].
    """
    gates, (first, second) = memory.gates, memory.initial
    given = (pairs, logits, memory.convolution.weight, first, second, memory.norm)
    steps = memory.config.set_steps
    out: Tensor = _recalled(*given, steps, gates.momentum, gates.forgetting)
    return out


def set_kernel_serves(pairs: Tensor, *, depth: int, width: int, features: int) -> bool:
    """Whether a kernel is made for this memory of a set, projected to pairs [B, N, 3 W].

    The memory is deep and a head of it fits a program, all tokens' gates fit one, and nobody
    asks for a gradient, which the kernel has not.
    """
    head_fits = width in TILES and features in TILES and width * features <= 8192
    fits = depth == 2 and head_fits and pairs.shape[1] <= TILES[-1]
    return fits and on_kernels_gpu(pairs) and not torch.is_grad_enabled() and _runs()


@known_when_compiling
def _runs() -> bool:
    return kernels_run() and set_kernel_agrees(current_gpu())


@functools.cache
def set_kernel_agrees(device: torch.device) -> bool:
    """Whether the kernel of a set's memory gives torch's numbers; a warning says where not."""
    return agrees(device, _errors, "the kernel of a set's memory does not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    config = MemoryConfig(heads=2, depth=2, features=128)
    with torch.random.fork_rng(devices=[]):  # a training's draws stay as they are
        memory = NeuralMemory(2 * WIDTH, config, causal=False).to(device).eval()
    x = normal_numbers(device)(ROWS, CHUNK, 2 * WIDTH)
    read = memory.out(recalled(memory.qkv(x), memory.gates.linear(x), memory))
    yield "the memory of a set", apart(read, memory(x))
