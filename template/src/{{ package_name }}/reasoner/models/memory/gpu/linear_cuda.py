"""What is sequential in the exact linear memory, as Triton kernels: substitution, and chunks.

The functions are those of solve.py, in float32; a program has some columns of one
matrix, since columns do not know each other. Both kernels go either way by their strides: the
gradient of each is the same kernel, from the end to the start.
"""

# what Triton compiles has no types; its constants are upper case
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def substitution_kernel(
    lower, right, out, size, columns, first_lower, first_right, lower_row, lower_column, right_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Row after row within a block of rows; what blocks before give is a product of tiles."""
    lower += tl.program_id(0).to(tl.int64) * size * size + first_lower
    right += tl.program_id(0).to(tl.int64) * size * columns + first_right
    out += tl.program_id(0).to(tl.int64) * size * columns + first_right
    i = tl.arange(0, ROWS)
    column = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    for start in range(0, size, ROWS):
        row = start + i
        inside = row < size
        at = row[:, None] * right_row + column
        there = inside[:, None] & (column < columns)
        x = tl.load(right + at, mask=there, other=0.0)
        for before in range(0, start, ROWS):
            known = before + i
            weights = lower + row[:, None] * lower_row + known[None, :] * lower_column
            at_known = known[:, None] * right_row + column
            found = tl.load(out + at_known, mask=column < columns, other=0.0)
            # tensor cores would round what later rows build on
            x -= tl.dot(
                tl.load(weights, mask=inside[:, None], other=0.0), found, input_precision="ieee"
            )
        for j in tl.static_range(ROWS):
            weights = lower + row * lower_row + (start + j) * lower_column
            weight = tl.load(weights, mask=inside & (i > j), other=0.0)
            x -= weight[:, None] * tl.sum(tl.where(i[:, None] == j, x, 0.0), 0)[None, :]
        tl.store(out + at, x, mask=there)
        tl.debug_barrier()  # other threads of the program read it


@triton.jit
def recurrence_kernel(
    steps, pushes, start, initial, resets, starts, end, chunks, columns, step_row, step_column,
    BACKWARDS: tl.constexpr, RESETS: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
    PART: tl.constexpr,
):  # fmt: skip
    """Z in registers; a step, PART of its columns at a time, finds those rows of Z in `starts`."""
    row = tl.program_id(0).to(tl.int64)
    i, p = tl.arange(0, SIZE), tl.arange(0, PART)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    at = i[:, None] * columns + column[None, :]
    z = tl.load(start + row * SIZE * columns + at)
    fresh = z
    if RESETS:
        fresh = tl.load(initial + row * SIZE * columns + at)
    for done in range(chunks):
        chunk = row * chunks + (chunks - 1 - done if BACKWARDS else done)
        if RESETS and not BACKWARDS:
            z = tl.where(tl.load(resets + chunk) != 0, fresh, z)
        found = starts + chunk * SIZE * columns
        tl.store(found + at, z)
        tl.debug_barrier()  # other threads of the program read it
        z = tl.load(pushes + chunk * SIZE * columns + at)
        for start_of in range(0, SIZE, PART):
            k = start_of + p
            step = steps + chunk * SIZE * SIZE + i[:, None] * step_row + k[None, :] * step_column
            rows = tl.load(found + k[:, None] * columns + column[None, :])
            # three products of TF32 parts: to 1e-6, about float32's own rounding, by tensor cores
            z += tl.dot(tl.load(step), rows, input_precision="tf32x3")
        if RESETS and BACKWARDS:
            z = tl.where(tl.load(resets + chunk) != 0, fresh, z)
    tl.store(end + row * SIZE * columns + at, z)
