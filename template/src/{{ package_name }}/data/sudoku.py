"""Sudoku: its size and alphabet. Token ids: 0 padding, 1 an empty cell, 2 and up the digits."""

from dataclasses import dataclass
from math import isqrt

from ..config_fields import require


@dataclass(frozen=True, kw_only=True)
class SudokuDataConfig:
    """Which puzzles."""

    side: int = 9
    """Rows, columns and digits: 4, 6 or 9."""

    def __post_init__(self) -> None:
        require(self.side in (4, 6, 9), f"data.side must be 4, 6 or 9, got {self.side}")

    @property
    def cells(self) -> int:
        """Tokens of a puzzle."""
        return self.side**2

    @property
    def vocabulary(self) -> int:
        """Padding, empty and the digits."""
        return self.side + 2

    @property
    def box(self) -> tuple[int, int]:
        """Rows and columns of a box."""
        rows = isqrt(self.side)
        return rows, self.side // rows
