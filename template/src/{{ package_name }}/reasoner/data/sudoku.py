"""Sudoku: puzzles that come with the project, and random symmetries of them in training.

Token ids: 0 padding, 1 an empty cell, 2 and up the digits. Training sees each puzzle after a
symmetry drawn for (epoch, index); validation and test see it as it stands.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
import torch

from ...engine.config.fields import require
from ...engine.data.dataset import Batch, Splits
from ...engine.data.splits import split_fingerprint
from .puzzle_files import LONGEST_LINE, Given, lines
from .sudoku_generator import Puzzle, is_minimal
from .sudoku_rules import geometry_of, parse_line, to_line
from .sudoku_sets import SHIPPED, check_apart, line_of, read_split
from .sudoku_solver import solve
from .sudoku_symmetry import transform

EMPTY_TOKEN = 1
EASIEST = 0.5
"""Share of the empty cells that a curriculum fills in at first."""
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class SudokuDataConfig:
    """Which puzzles."""

    side: int = 9
    """Rows, columns and digits: 4, 6 or 9."""
    augment: bool = True
    """Train on a random symmetry of each puzzle."""
    curriculum: float = 0.0
    """Share of a training's steps, from its first, over which puzzles grow from easy to as they
    are: half of the empty cells are filled in at first, ever fewer later, none in the end."""
    folder: str = ""
    """Where the set is, with its manifest; empty for the one that comes with the project."""

    def __post_init__(self) -> None:
        require(self.side in (4, 6, 9), f"data.side must be 4, 6 or 9, got {self.side}")
        require(
            0 <= self.curriculum <= 1, f"data.curriculum must be in [0, 1], got {self.curriculum}"
        )

    @property
    def cells(self) -> int:
        """Tokens of a puzzle."""
        return self.side**2

    @property
    def vocabulary(self) -> int:
        """Padding, empty and the digits."""
        return self.side + 2

    def filled_in(self, step: int, steps: int) -> float:
        """The share of empty cells that step `step`, from 0, of a training of `steps` fills in."""
        length = self.curriculum * steps
        return EASIEST * max(0.0, 1 - step / length) if length else 0.0


class SudokuPuzzles:
    """One split of Sudoku puzzles as a dataset. Every cell is labelled, the given ones too.

    An example: `tokens` and `labels` int64 [cells], and as int64 numbers `example_id`, `guesses`
    (how hard it is) and `minimal` (1 if every given digit is needed).
    """

    def __init__(self, puzzles: list[Puzzle], first_id: int, augment: bool) -> None:
        self.augment = augment
        self.numbers = {
            "example_id": torch.arange(first_id, first_id + len(puzzles)),
            "guesses": torch.tensor([each.guesses for each in puzzles]),
            "minimal": torch.tensor([int(each.minimal) for each in puzzles]),
        }
        pairs = [(list(each.puzzle), list(each.solution)) for each in puzzles]
        self.pairs = torch.tensor(pairs)  # [N, 2, cells]

    def __len__(self) -> int:
        return len(self.pairs)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`, after a symmetry if there is a `generator`."""
        pair = self.pairs[index]
        if generator is not None and self.augment:
            pair = transform(pair, generator)
        tokens, labels = (pair + EMPTY_TOKEN).unbind()
        numbers = {name: each[index] for name, each in self.numbers.items()}
        return {"tokens": tokens, "labels": labels, **numbers}


def made_easier(batch: Batch, share: float, generator: torch.Generator) -> Batch:
    """Fill in about that share of the empty cells of Sudokus, `tokens` [B, cells].

    Each cell is drawn by itself, on the CPU, whatever device the batch is on; one that is given
    holds its label already.
    """
    tokens = batch["tokens"]
    chosen = (torch.rand(tokens.shape, generator=generator) < share).to(tokens.device)
    return {**batch, "tokens": torch.where(chosen, batch["labels"], tokens)}


def load_sudoku_splits(config: SudokuDataConfig) -> Splits:
    """Load the three Sudoku splits of the set, as datasets.

    Raises RefusedInputError where it is missing or changed, or a puzzle is in two splits.
    """
    folder = Path(config.folder) if config.folder else SHIPPED
    read = {split: read_split(folder, config.side, split) for split in get_args(Split)}
    check_apart(folder, config.side, read)
    made: dict[str, SudokuPuzzles] = {}
    digest = hashlib.sha256()
    indices = {}
    first = 0
    for split, puzzles in read.items():
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


def given_puzzles(file: IO[bytes]) -> Iterator[Given]:
    """Read a file of Sudokus, a line each, as a puzzle or the reason why it is none.

    What follows the first word of a line is not looked at, so that files of `generate` and of
    this package's sets can be read.
    """
    for line in lines(file):
        words = line.text.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        if not line.whole:
            problem = f"it is longer than {LONGEST_LINE} bytes"
            yield Given(line=line.number, problem=problem)
            continue
        try:
            grid = parse_line(words[0])
        except ValueError as error:
            yield Given(line=line.number, problem=str(error))
        else:
            yield Given(line=line.number, puzzle=to_line(grid), size=geometry_of(grid).side)


def solved_puzzles(given: Sequence[Given]) -> tuple[list[Puzzle], list[Given]]:
    """Puzzles with their only solution, as our solver finds it, and those that have not one."""
    found, refused = [], []
    for each in given:
        grid = parse_line(each.puzzle)
        result = solve(grid)
        if result.solutions != 1 or result.solution is None:
            number = "no solution" if not result.solutions else "more than one solution"
            refused.append(Given(line=each.line, problem=f"it has {number}"))
            continue
        found.append(
            Puzzle(
                puzzle=grid,
                solution=result.solution,
                guesses=result.guesses,
                minimal=is_minimal(grid),
            )
        )
    return found, refused
