"""What leaves a Sudoku the same puzzle: its symmetries, and keys that do not see them.

The symmetries: any exchange of digits, of bands (rows of boxes) and stacks (columns of boxes),
of rows within a band and columns within a stack; and, where boxes are square, of rows with
columns. N grids of `side` x `side` cells, 0 for an empty one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sudoku_rules import geometry

Colours = NDArray[np.uint64]
ROUNDS = 6
"""Of refinement. More could tell more grids apart; each makes keys of another version."""
_BLOCK = 4096


@dataclass(frozen=True, kw_only=True)
class Symmetry:
    """One symmetry of Sudoku grids of one side: orders of rows and columns, relabelled digits."""

    cells: Tensor
    """int64 [cells]: where the content of each cell is taken from."""
    digits: Tensor
    """int64 [side + 1]: what each digit becomes; 0, an empty cell, stays."""

    def apply(self, grids: Tensor) -> Tensor:
        """`grids`, integers [..., cells] in [0, side], after the symmetry; int64 [..., cells]."""
        # faster than indices in brackets
        return self.digits.take(grids.to(torch.int64).index_select(-1, self.cells))


def random_symmetry(side: int, generator: torch.Generator) -> Symmetry:
    """A symmetry, each equally likely."""
    shape = geometry(side)
    rows = _lines(shape.box_rows, side, generator)
    columns = _lines(shape.box_columns, side, generator)
    if shape.transposes and torch.randint(2, (), generator=generator):
        cells = [row * side + column for column in columns for row in rows]
    else:
        cells = [row * side + column for row in rows for column in columns]
    digits = [0, *(1 + digit for digit in _permutation(side, generator))]
    return Symmetry(cells=_numbers(cells), digits=_numbers(digits))


def transform(grids: Tensor, generator: torch.Generator) -> Tensor:
    """Apply one random symmetry to grids, integers [N, cells] in [0, side]; int64 [N, cells]."""
    return random_symmetry(geometry_side(grids), generator).apply(grids)


def geometry_side(grid: Tensor) -> int:
    """The side of a grid [cells]."""
    return {side * side: side for side in (4, 6, 9)}[grid.shape[-1]]


def _numbers(some: list[int]) -> Tensor:
    """int64, by way of an array: that takes a quarter of torch.tensor's time."""
    return torch.from_numpy(np.array(some, dtype=np.int64))


def _permutation(count: int, generator: torch.Generator) -> list[int]:
    numbers: list[int] = torch.randperm(count, generator=generator).tolist()
    return numbers


def _lines(size: int, side: int, generator: torch.Generator) -> list[int]:
    """An order of rows (or columns) in which those of a box, `size` of them, stay together."""
    groups = _permutation(side // size, generator)
    # lists: so few numbers are mixed faster one by one than by operators on tensors
    return [group * size + line for group in groups for line in _permutation(size, generator)]


def keys(grids: NDArray[np.uint8], side: int, *, solved: bool = False) -> Colours:
    """A number for each grid [N, cells] that no symmetry changes; uint64 [N].

    Equivalent grids have equal keys, always; so different keys prove that grids are not
    equivalent. Equal keys prove nothing: grids that refinement cannot tell apart share one, and
    a search for leakage then refuses more than it had to.

    The key is Weisfeiler and Leman's colour refinement: the colour of a cell is hashed again and
    again together with the multisets of colours in its row, column, box and digit, and the key
    is the multiset of cells. In a solved grid (`solved`) all cells would look the same, so each
    in turn gets a colour of its own and the key is the multiset of what comes out.
    """
    block = _BLOCK // (side * side if solved else 1)
    parts = [grids[start : start + block] for start in range(0, len(grids), block)]
    found = [_keys_of_block(part.reshape(-1, side, side), side, solved) for part in parts]
    return np.concatenate([np.zeros(0, np.uint64), *found])


def key(grid: bytes, *, solved: bool = False) -> int:
    """The key of one grid."""
    cells = np.frombuffer(grid, dtype=np.uint8)[None]
    return int(keys(cells, round(len(grid) ** 0.5), solved=solved)[0])


def _keys_of_block(grids: NDArray[np.uint8], side: int, solved: bool) -> Colours:
    found = _refined(grids, side, solved)
    if geometry(side).transposes:
        found = np.minimum(found, _refined(grids.transpose(0, 2, 1), side, solved))
    return found


def _refined(grids: NDArray[np.uint8], side: int, solved: bool) -> Colours:
    """Refine the symmetry-invariant keys of grids [N, side, side], rows and columns apart."""
    given = (grids > 0).astype(np.uint64)
    if not solved:
        return _refine(grids, given, side)
    cells = side * side
    own = np.repeat(given, cells, axis=0).reshape(-1, cells, cells)
    own[:, range(cells), range(cells)] = 2  # copy i of a grid: its cell i
    own = own.reshape(-1, side, side)
    refined = _refine(np.repeat(grids, cells, axis=0), own, side)
    return _mixed(refined).reshape(-1, cells).sum(axis=1)


def _refine(grids: NDArray[np.uint8], colours: Colours, side: int) -> Colours:
    shape = geometry(side)
    boxes = (-1, side // shape.box_rows, shape.box_rows, side // shape.box_columns)
    has_digit = [(grids == digit).astype(np.uint64) for digit in range(1, side + 1)]
    for _ in range(ROUNDS):
        colours = _mixed(colours)
        in_rows = colours.sum(axis=2, keepdims=True)
        in_columns = colours.sum(axis=1, keepdims=True)
        in_boxes = colours.reshape(*boxes, shape.box_columns).sum(axis=(2, 4))
        in_boxes = in_boxes.repeat(shape.box_rows, 1).repeat(shape.box_columns, 2)
        next_colours = colours + _mixed(in_rows, 1) + _mixed(in_columns, 2) + _mixed(in_boxes, 3)
        for mask in has_digit:
            next_colours += _mixed((colours * mask).sum(axis=(1, 2), keepdims=True), 4) * mask
        colours = next_colours
    return _mixed(_mixed(colours).sum(axis=(1, 2)))


def _mixed(values: Colours, kind: int = 0) -> Colours:
    """A bijection of 64 bits without a pattern (splitmix64), another one for each kind."""
    mixed = values + np.uint64((0x9E3779B97F4A7C15 * (kind + 1)) % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
