"""Sudoku as a grid: all cells at once, refined until the head says they are right."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from ...engine.data.dataset import Batch, Dataset, Splits
from ...engine.errors import RefusedInputError
from ...engine.seeding import torch_generator
from ...engine.training.task import Carry, ReportSection, Row
from ..data.puzzle_files import Given
from ..data.sudoku import (
    EMPTY_TOKEN,
    SudokuPuzzles,
    given_puzzles,
    load_sudoku_splits,
    made_easier,
    solved_puzzles,
)
from ..data.sudoku_generator import puzzle_at
from ..data.sudoku_rules import geometry, parse_line, to_line
from ..evaluation.difficulty import accuracy_by_guesses, difficulty_section
from ..evaluation.halting import halting_section
from ..evaluation.sudoku_steps import sudoku_steps_section
from ..models.full_model import RecursiveReasoner
from .course import reasoner_of
from .puzzles import PuzzleTask
from .sudoku_presets import ABLATIONS, PRESETS, SudokuConfig


class SudokuTask(PuzzleTask[SudokuConfig]):
    """The task of Sudoku: every cell of the solution, from the given ones."""

    name = "sudoku"
    config_type = SudokuConfig
    presets = PRESETS
    ablations = ABLATIONS
    primary_metric = "accuracy"
    form = "one puzzle a line, 81, 36 or 16 characters, `.` or `0` for an empty cell"

    @property
    def size(self) -> int:
        """Rows, columns and digits."""
        return self.config.data.side

    @property
    def vocabulary(self) -> int:
        """Padding, empty and the digits."""
        return self.config.data.vocabulary

    def build_model(self) -> nn.Module:
        """The reasoner for the cells and digits of the puzzles."""
        data = self.config.data
        return RecursiveReasoner(self.config.model, vocabulary=data.vocabulary, tokens=data.cells)

    def datasets(self) -> Splits:
        """The set that comes with the project, or the one that `data.folder` names.

        Raises RefusedInputError for a curriculum where nothing counts its steps.
        """
        if self.config.data.curriculum and self.reasoner.halting.max_steps == 1:
            raise RefusedInputError(
                "data.curriculum needs the count of steps in the carry, and with "
                "model.halting.max_steps 1 there is no carry: set one of them otherwise"
            )
        return load_sudoku_splits(self.config.data)

    def begin(self, carry: Carry | None, candidates: Batch) -> tuple[Batch, Carry | None]:
        """As every reasoner begins, but with easier candidates while the curriculum lasts."""
        step = 0 if carry is None else int(carry["updates"][0])
        share = self.config.data.filled_in(step, self.config.training.steps)
        if share:
            generator = torch_generator(self.config.seed, "curriculum", step)
            candidates = made_easier(candidates, share, generator)
        return super().begin(carry, candidates)

    def given(self, file: IO[bytes]) -> Iterator[Given]:
        """One puzzle a line."""
        return given_puzzles(file)

    def tokens(self, puzzle: str) -> list[int]:
        """Token ids of the cells."""
        return [cell + EMPTY_TOKEN for cell in parse_line(puzzle)]

    def answer(self, tokens: Sequence[int]) -> str:
        """The digits; what is none reads as an empty cell."""
        return to_line(bytes(max(0, token - EMPTY_TOKEN) for token in tokens))

    def is_solution(self, puzzle: str, answer: str) -> bool:
        """Whether rows, columns, boxes and the given digits are right."""
        rules = geometry(self.size)
        given, grid = parse_line(puzzle), parse_line(answer)
        return rules.is_solution(grid) and rules.keeps_givens(given, grid)

    def grid(self, text: str) -> str:
        """Rows of digits."""
        rows = (text[at : at + self.size] for at in range(0, len(text), self.size))
        return "\n".join(" ".join(row) for row in rows)

    def labelled(self, puzzles: Sequence[Given]) -> tuple[Dataset, list[Given]]:
        """With the solution that our solver finds; without those that have none or several."""
        found, refused = solved_puzzles(puzzles)
        return SudokuPuzzles(found, 0, augment=False), refused

    def slices(self, batch: Batch, row: int) -> dict[str, str]:
        """Empty cells as the difficulty, guesses, and whether every given digit is needed."""
        return {
            "difficulty": str(int((batch["tokens"][row] == EMPTY_TOKEN).sum())),
            "guesses": str(int(batch["guesses"][row])),
            "minimal": "yes" if batch["minimal"][row] else "no",
        }

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        """Of 9 x 9 puzzles also by how many guesses they need; smaller ones rarely need one."""
        found = super().scores(rows)
        return found | accuracy_by_guesses(rows) if self.size == 9 else found

    def report_sections(self, rows: Sequence[Row], folder: Path) -> list[ReportSection]:
        """Accuracy by empty cells; steps taken, and against the first step that was right."""
        return [difficulty_section(rows, folder, "empty cells"), halting_section(rows, folder)]

    def inspection_sections(
        self, model: nn.Module, rows: Sequence[Row], examples: Dataset, folder: Path
    ) -> list[ReportSection]:
        """A puzzle solved step by step, then what all tasks of the reasoner tell."""
        shown = sudoku_steps_section(reasoner_of(model), rows, examples, folder)
        return [shown, *super().inspection_sections(model, rows, examples, folder)]

    def example_input(self) -> tuple[Tensor]:
        """One empty grid."""
        return (torch.ones(1, self.config.data.cells, dtype=torch.int64),)

    def example_candidate(self) -> Batch:
        """A puzzle that is made here."""
        puzzle = puzzle_at(0, self.config.data.side, "minimal", 0)
        return SudokuPuzzles([puzzle], 0, augment=False).example(0, None)
