"""The rules of Sudoku for sides of 4, 6 and 9, and puzzles as lines of text.

A grid is `bytes` of side * side cells, row by row: 0 is an empty cell, 1 to side are digits.
Boxes have 2 x 2, 2 x 3 (rows x columns) and 3 x 3 cells.
"""

from functools import cache
from math import isqrt

SIDES = (4, 6, 9)
EMPTY = "."


class Geometry:
    """Rows, columns and boxes of a grid with `side` rows. Raises ValueError for another side."""

    def __init__(self, side: int) -> None:
        if side not in SIDES:
            raise ValueError(f"a side is one of {SIDES}, got {side}")
        self.side = side
        self.cells = side * side
        self.box_rows = isqrt(side)
        self.box_columns = side // self.box_rows
        rows = tuple(tuple(range(row * side, (row + 1) * side)) for row in range(side))
        columns = tuple(tuple(range(column, self.cells, side)) for column in range(side))
        boxes = tuple(
            tuple(c for c in range(self.cells) if self.box_of(c) == box) for box in range(side)
        )
        self.units: tuple[tuple[int, ...], ...] = rows + columns + boxes
        """The rows, then the columns, then the boxes; cells of each in ascending order."""
        self.peers: tuple[frozenset[int], ...] = tuple(
            frozenset(c for unit in self.units if cell in unit for c in unit if c != cell)
            for cell in range(self.cells)
        )
        """The cells that must differ from each cell."""

    def box_of(self, cell: int) -> int:
        """The Sudoku box of a cell; boxes are numbered row by row."""
        row, column = divmod(cell, self.side)
        boxes_in_a_row = self.side // self.box_columns
        return row // self.box_rows * boxes_in_a_row + column // self.box_columns

    @property
    def transposes(self) -> bool:
        """Whether rows and columns can be exchanged: only where boxes are square."""
        return self.box_rows == self.box_columns

    def is_solution(self, grid: bytes) -> bool:
        """Whether every row, column and box of `grid` holds each digit once."""
        digits = set(range(1, self.side + 1))
        return len(grid) == self.cells and all(
            {grid[cell] for cell in unit} == digits for unit in self.units
        )

    def keeps_givens(self, puzzle: bytes, grid: bytes) -> bool:
        """Whether `grid` has the digits that `puzzle` gives, where it gives them."""
        return len(puzzle) == len(grid) == self.cells and all(
            given in (0, digit) for given, digit in zip(puzzle, grid, strict=True)
        )

    def conflicts(self, puzzle: bytes) -> bool:
        """Whether two given digits of `puzzle` break a rule already."""
        return any(
            puzzle[cell] and any(puzzle[peer] == puzzle[cell] for peer in self.peers[cell])
            for cell in range(self.cells)
        )


@cache
def geometry(side: int) -> Geometry:
    """The one Sudoku Geometry of a side, made once."""
    return Geometry(side)


def geometry_of(grid: bytes | bytearray) -> Geometry:
    """The geometry that fits the length of `grid`. Raises ValueError where none does."""
    return geometry(_side(len(grid)))


def _side(length: int) -> int:
    for side in SIDES:
        if side * side == length:
            return side
    known = ", ".join(str(side * side) for side in reversed(SIDES))
    raise ValueError(f"a puzzle has {known} characters, this has {length}")


def parse_line(text: str) -> bytes:
    """Parse a Sudoku grid from a line; `.` and `0` are empty cells, space around it is ignored.

    Raises ValueError for a length without a side and for a character that is no cell; the
    message says which. Whether the digits keep the rules is not asked here.
    """
    line = text.strip()
    side = _side(len(line))
    allowed = EMPTY + "".join(str(digit) for digit in range(side + 1))
    for place, character in enumerate(line, start=1):
        if character not in allowed:
            raise ValueError(
                f"character {place} is {character!r}; a cell is '.', or a digit from 0 to {side}"
            )
    return bytes(0 if character == EMPTY else int(character) for character in line)


def to_line(grid: bytes) -> str:
    """Format a Sudoku grid as a line of text, with `.` for an empty cell."""
    return "".join(str(digit) if digit else EMPTY for digit in grid)
