"""Where the Triton kernels of the *_cuda.py files stand in for the same sums written in torch.

CUDA builds of torch bring Triton. Without it, and for sizes that no kernel is made for, the torch
form serves; it is also what the kernels are tested against.
"""

import functools
import importlib.util

import torch
from torch import Tensor

TILES = (16, 32, 64, 128)
"""Widths that a tile may have: powers of two, from what a tensor core takes."""


@functools.cache
def triton_is_there() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def set_kernel_serves(pairs: Tensor, *, depth: int, width: int, features: int) -> bool:
    """Whether a kernel is made for this memory of a set, projected to pairs [B, N, 3 W].

    The memory is deep and a head of it fits a program, all tokens' gates fit one, and nobody
    asks for a gradient, which the kernel has not.
    """
    head_fits = width in TILES and features in TILES and width * features <= 8192
    fits = depth == 2 and head_fits and pairs.shape[1] <= TILES[-1]
    return fits and kernels_serve(pairs) and not torch.is_grad_enabled()


def kernels_serve(x: Tensor) -> bool:
    """Whether x is where kernels run, in a precision that they have."""
    return x.is_cuda and x.dtype != torch.float64 and triton_is_there()


def linear_kernels_serve(x: Tensor) -> bool:
    """Whether kernels do what is sequential in a linear memory of x; not in compiled code."""
    return x.dtype == torch.float32 and kernels_serve(x) and not torch.compiler.is_compiling()


def recurrence_fits(pushes: Tensor) -> bool:
    """Whether a program holds some columns of a memory with pushes [N, K, D, V]."""
    size, columns = pushes.shape[-2:]
    return size in TILES and columns % TILES[0] == 0
