"""Where the Triton kernels of the *_cuda.py files stand in for the same sums written in torch.

A *_launch.py file calls them, with programs, sizes and strides. CUDA builds of torch bring Triton.
Without it, and for sizes that no kernel is made for, the torch form serves; it is also what the
kernels are tested against.
"""

import importlib.util
from collections.abc import Sequence

import torch
from torch import Tensor

from ...layers.compile_time import known_when_compiling

TILES = (16, 32, 64, 128)
"""Widths that a tile may have: powers of two, from what a tensor core takes."""
GENERATIONS = (9, 10)
"""Major compute capabilities: H100 and H200; B200."""
TRITON_IS_THERE = importlib.util.find_spec("triton") is not None
FLA_IS_THERE = importlib.util.find_spec("fla") is not None


@known_when_compiling
def kernels_run() -> bool:
    """Whether Triton is there, and a GPU that the kernels were made for, on which they are right.

    These are Hopper and Blackwell. For others, Ampere among them, what Triton (3.9) makes of them
    spills thousands of registers.
    """
    if not TRITON_IS_THERE or torch.version.cuda is None:
        return False
    if torch.cuda.get_device_capability()[0] not in GENERATIONS:
        return False
    from ...serving.kernel_check import kernels_agree

    return kernels_agree(torch.device("cuda", torch.cuda.current_device()))


def set_kernel_serves(pairs: Tensor, *, depth: int, width: int, features: int) -> bool:
    """Whether a kernel is made for this memory of a set, projected to pairs [B, N, 3 W].

    The memory is deep and a head of it fits a program, all tokens' gates fit one, and nobody
    asks for a gradient, which the kernel has not.
    """
    head_fits = width in TILES and features in TILES and width * features <= 8192
    fits = depth == 2 and head_fits and pairs.shape[1] <= TILES[-1]
    return fits and kernels_serve(pairs) and not torch.is_grad_enabled()


def step_kernels_serve(
    columns: Tensor, keys: Tensor, state: Sequence[Tensor], *, exact: bool
) -> bool:
    """Whether kernels do what a decoded token does between its projections, columns [B, 1, ...].

    `keys` [B, H, R, D] are attention's cache, `state` the memory's, whose gradients are `exact`.
    A head of either fits a program, all lie row by row, and nobody asks for a gradient, which the
    kernels have not.
    """
    weights, widths = state[0], {keys.shape[-1], *state[0].shape[1:]}
    fits = widths <= {*TILES} and weights.shape[1] * weights.shape[2] <= 8192
    kinds = columns.dtype == keys.dtype and weights.dtype == torch.float32
    fits = fits and all(each.is_contiguous() for each in (keys, *state))
    formula = exact or len(state) == 2  # a linear memory has one
    served = fits and kinds and formula and kernels_serve(columns)
    return served and not torch.is_grad_enabled()


def kernels_serve(x: Tensor) -> bool:
    """Whether x is where kernels run, in a precision that they have."""
    return x.is_cuda and x.dtype != torch.float64 and kernels_run()


def linear_kernels_serve(x: Tensor) -> bool:
    """Whether kernels do what is sequential in a memory of x, exact; not in compiled code."""
    return x.dtype == torch.float32 and not torch.compiler.is_compiling() and kernels_serve(x)


def recurrence_fits(pushes: Tensor) -> bool:
    """Whether a program holds some columns of a memory with pushes [N, K, D, V]."""
    size, columns = pushes.shape[-2:]
    return size in TILES and columns % TILES[0] == 0


def delta_kernels_serve(q: Tensor, resets: Tensor | None) -> bool:
    """Whether the extra `fla` does a linear memory without momentum, for queries [N, T, D].

    It cannot reset rows between chunks, and is of no use to a token or two.
    """
    fits = resets is None and q.shape[1] > 1 and q.shape[-1] in TILES
    if not (fits and FLA_IS_THERE and linear_kernels_serve(q)):
        return False
    from ...serving.kernel_check import delta_kernels_agree

    return delta_kernels_agree(q.device)
