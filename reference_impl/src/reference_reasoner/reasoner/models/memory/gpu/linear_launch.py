"""Launches of the linear memory's kernels: the sequential sums of solve.py, and where they serve.

In float32, outside of compiled code. Each kernel is held against torch's own sum once a process.
"""

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ...layers.triton_support import TILES, on_kernels_gpu
from ...layers.twin_check import agrees, apart
from ..solve import Sums, recurrence, substitution

COLUMNS = 16
"""Columns of a program, the fewest that a product of tiles takes: at batch 1 there are few rows."""


def substituted(lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
    """Launch the kernel of the triangular solve: `substitution` of L [..., C, C], [..., C, V]."""
    from .linear_cuda import substitution_kernel

    lower, right = lower.contiguous(), right.contiguous()
    size, columns = right.shape[-2:]
    out = torch.empty_like(right)
    ways = (0, 0, size, 1, columns)
    if transposed:  # from the last row to the first, L's columns for its rows
        ways = (size * size - 1, (size - 1) * columns, -1, -size, -columns)
    grid = (right.numel() // max(1, size * columns), -(-columns // COLUMNS))
    if grid[0]:
        with torch.cuda.device_of(right):  # type: ignore[no-untyped-call]
            substitution_kernel[grid](
                lower, right, out, size, columns, *ways, ROWS=16, COLUMNS=COLUMNS, num_warps=1
            )
    return out


def recurred(
    steps: Tensor, pushes: Tensor, start: Tensor, initial: Tensor | None, resets: Tensor | None,
    *, backwards: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Launch the kernel that carries a state on from chunk to chunk, as `recurrence` does."""
    from .linear_cuda import recurrence_kernel

    (rows, chunks, size, columns), resetting = pushes.shape, resets is not None
    starts, end = (x.new_empty(x.shape) for x in (pushes, start))
    # without resets both stand for pointers that nobody reads
    flags = start if resets is None else resets.contiguous().view(torch.uint8)
    given = (x.contiguous() for x in (steps, pushes, start, start if initial is None else initial))
    with torch.cuda.device_of(pushes):  # type: ignore[no-untyped-call]
        recurrence_kernel[(rows, columns // COLUMNS)](
            *given, flags, starts, end, chunks, columns, *((1, size) if backwards else (size, 1)),
            BACKWARDS=backwards, RESETS=resetting, SIZE=size, COLUMNS=COLUMNS, PART=min(32, size),
            num_warps=8,
        )  # fmt: skip
    return starts, end


def sums_for(q: Tensor, v: Tensor) -> Sums:
    """The sequential sums for queries [N, T, D] and values [N, T, V]: kernels where they serve."""
    substitute, recur = substitution, recurrence
    if kernels_may_serve(q):
        substitute = substituted if substitution_agrees(q.device) else substitution
        fits = recurrence_fits(2 * q.shape[-1], v.shape[-1])
        recur = recurred if fits and recurrence_agrees(q.device) else recurrence
    return Sums(substitute, recur)


def kernels_may_serve(x: Tensor) -> bool:
    """Whether the sums of a memory of x may be kernels': float32, on their GPU, not compiled."""
    return x.dtype == torch.float32 and not torch.compiler.is_compiling() and on_kernels_gpu(x)


def recurrence_fits(size: int, columns: int) -> bool:
    """Whether a program of the recurrence's kernel holds a state of that size and columns."""
    return size in TILES and columns % TILES[0] == 0


@functools.cache
def substitution_agrees(device: torch.device) -> bool:
    """Whether the triangular solve's kernel gives torch's numbers; a warning says where not."""
    return agrees(device, _substitution_errors, "the kernel of the triangular solve does not serve")


@functools.cache
def recurrence_agrees(device: torch.device) -> bool:
    """Whether the recurrence's kernel gives torch's numbers; a warning says where not."""
    return agrees(device, _recurrence_errors, "the kernel of the recurrence does not serve")


ROWS, CHUNKS, CHUNK, WIDTH = 2, 3, 64, 64
"""Sizes of the examples that kernels are held against torch with."""


def normal_numbers(device: torch.device) -> Callable[..., Tensor]:
    """A function that draws the same normal numbers of a shape on every device."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator).to(device)


def _substitution_errors(device: torch.device) -> Iterator[tuple[str, float]]:
    normal = normal_numbers(device)
    keys = normalize(normal(ROWS, CHUNK, WIDTH), dim=-1)
    lower, right = (keys @ keys.mT).tril(-1), normal(ROWS, CHUNK, WIDTH)
    for transposed in (False, True):
        found = substituted(lower, right, transposed=transposed)
        yield "substitution", apart(found, substitution(lower, right, transposed=transposed))


def _recurrence_errors(device: torch.device) -> Iterator[tuple[str, float]]:
    normal = normal_numbers(device)
    steps, pushes = normal(ROWS, CHUNKS, WIDTH, WIDTH), normal(ROWS, CHUNKS, WIDTH, WIDTH)
    given = (steps / WIDTH**0.5, pushes, normal(ROWS, WIDTH, WIDTH), None, None)
    for backwards in (False, True):
        both = zip(
            recurred(*given, backwards=backwards),
            recurrence(*given, backwards=backwards),
            strict=True,
        )
        yield "the recurrence", max(apart(*each) for each in both)
