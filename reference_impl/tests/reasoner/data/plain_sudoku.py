"""A Sudoku solver without a trick: the cell with the fewest digits, each of them, and back."""

from functools import cache


def box(side: int) -> tuple[int, int]:
    """Rows and columns of a box."""
    return {4: (2, 2), 6: (2, 3), 9: (3, 3)}[side]


@cache
def neighbours(cell: int, side: int) -> list[int]:
    """The other cells of a cell's row, column and box."""
    rows, columns = box(side)
    row, column = divmod(cell, side)
    found = []
    for other in range(side * side):
        r, c = divmod(other, side)
        same_box = r // rows == row // rows and c // columns == column // columns
        if other != cell and (r == row or c == column or same_box):
            found.append(other)
    return found


def allowed(grid: bytearray, cell: int, digit: int, side: int) -> bool:
    """Whether `digit` stands nowhere else in the row, column and box of `cell`."""
    return all(grid[other] != digit for other in neighbours(cell, side))


def solutions(puzzle: bytes, limit: int = 2) -> list[bytes]:
    """Up to `limit` solutions."""
    side = round(len(puzzle) ** 0.5)
    grid, found = bytearray(puzzle), []

    def search() -> None:
        # the cell with fewest digits, so that 9 x 9 ends in a second
        best: tuple[int, list[int]] | None = None
        for cell, digit in enumerate(grid):
            if digit:
                continue
            digits = [d for d in range(1, side + 1) if allowed(grid, cell, d, side)]
            if best is None or len(digits) < len(best[1]):
                best = cell, digits
        if best is None:
            found.append(bytes(grid))
            return
        for digit in best[1]:
            grid[best[0]] = digit
            search()
            grid[best[0]] = 0
            if len(found) >= limit:
                return

    search()
    return found
