"""Sudoku: puzzles that come with the project, and random symmetries of them in training.

Token ids: 0 padding, 1 an empty cell, 2 and up the digits. Training sees each puzzle after a
symmetry drawn for (epoch, index); validation and test see it as it stands.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from ..config_fields import require
from .dataset import Batch, Splits
from .splits import split_fingerprint
from .sudoku_generator import Puzzle
from .sudoku_sets import SHIPPED, line_of, read_split
from .sudoku_symmetry import transform

EMPTY_TOKEN = 1
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class SudokuDataConfig:
    """Which puzzles."""

    side: int = 9
    """Rows, columns and digits: 4, 6 or 9."""
    augment: bool = True
    """Train on a random symmetry of each puzzle."""
    folder: str = ""
    """Where the set is, with its manifest; empty for the one that comes with the project."""

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


class SudokuPuzzles:
    """One split. Every cell is labelled, the given ones too.

    An example: `tokens` and `labels` int64 [cells], and as int64 numbers `example_id`, `guesses`
    (how hard it is) and `minimal` (1 if every given digit is needed).
    """

    def __init__(self, puzzles: list[Puzzle], first_id: int, augment: bool) -> None:
        self.puzzles = puzzles
        self.first_id = first_id
        self.augment = augment
        self.grids = torch.tensor([list(each.puzzle) for each in puzzles])
        self.solutions = torch.tensor([list(each.solution) for each in puzzles])

    def __len__(self) -> int:
        return len(self.puzzles)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`, after a symmetry if there is a `generator`."""
        grid, solution = self.grids[index], self.solutions[index]
        if generator is not None and self.augment:
            grid, solution = transform(grid, solution, generator)
        return {
            "example_id": torch.tensor(self.first_id + index),
            "tokens": grid + EMPTY_TOKEN,
            "labels": solution + EMPTY_TOKEN,
            "guesses": torch.tensor(self.puzzles[index].guesses),
            "minimal": torch.tensor(int(self.puzzles[index].minimal)),
        }


def load_sudoku_splits(config: SudokuDataConfig) -> Splits:
    """The three splits of the set. Raises RefusedInputError where it is missing or changed."""
    folder = Path(config.folder) if config.folder else SHIPPED
    made: dict[str, SudokuPuzzles] = {}
    digest = hashlib.sha256()
    indices = {}
    first = 0
    for split in get_args(Split):
        puzzles = read_split(folder, config.side, split)
        digest.update("\n".join(map(line_of, puzzles)).encode("ascii"))
        made[split] = SudokuPuzzles(puzzles, first, config.augment and split == "train")
        indices[split] = np.array([first, len(puzzles)])
        first += len(puzzles)
    preparation = {"side": config.side, "augment": config.augment}
    return Splits(
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=split_fingerprint(digest.hexdigest(), indices, preparation),
    )
