"""The GPUs that the Triton kernels are made for, and whether a tensor lies on one.

Kernels are in *_cuda.py files; a *_launch.py file calls them, says for which calls, and holds them
against the same sums written in torch before they serve. CUDA builds of torch bring Triton.
"""

import importlib.util

import torch
from torch import Tensor

from .compile_time import known_when_compiling

TILES = (16, 32, 64, 128)
"""Widths that a tile may have: powers of two, from what a tensor core takes."""
GENERATIONS = (9, 10)
"""Major compute capabilities: H100 and H200; B200."""
TRITON_IS_THERE = importlib.util.find_spec("triton") is not None
FLA_IS_THERE = importlib.util.find_spec("fla") is not None


@known_when_compiling
def kernels_run() -> bool:
    """Whether Triton is there, and a GPU of a generation that the kernels were made for.

    These are Hopper and Blackwell. For others, Ampere among them, what Triton (3.9) makes of them
    spills thousands of registers.
    """
    if not TRITON_IS_THERE or torch.version.cuda is None:
        return False
    return torch.cuda.get_device_capability()[0] in GENERATIONS


def on_kernels_gpu(x: Tensor) -> bool:
    """Whether x lies on a GPU where Triton kernels run, in a precision that they have."""
    return x.is_cuda and x.dtype != torch.float64 and kernels_run()


def current_gpu() -> torch.device:
    """The GPU that kernels are launched on now."""
    return torch.device("cuda", torch.cuda.current_device())
