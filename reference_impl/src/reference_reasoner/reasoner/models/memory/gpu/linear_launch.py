"""Launches of the kernels of memory_linear_cuda.py: the functions of memory_sequential.py."""

import torch
from torch import Tensor

COLUMNS = 16
"""Columns of a program, the fewest that a product of tiles takes: at batch 1 there are few rows."""


def substituted(lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
    """(I + L)^-1 right, or (I + L)^-T right; L [..., C, C], right [..., C, V]."""
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
    """`memory_sequential.recurrence` by one kernel."""
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
