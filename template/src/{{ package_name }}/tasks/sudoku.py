"""Sudoku as a grid: all cells at once, refined until the head says they are right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from ..config import CheckpointConfig, EvaluationConfig, RunConfig, TrainingConfig
from ..data.dataset import Batch, Dataset, Splits
from ..data.puzzle_files import Given
from ..data.sudoku import (
    EMPTY_TOKEN,
    SudokuDataConfig,
    SudokuPuzzles,
    given_puzzles,
    load_sudoku_splits,
    solved_puzzles,
)
from ..data.sudoku_generator import puzzle_at
from ..data.sudoku_rules import geometry, parse_line, to_line
from ..evaluation.difficulty import difficulty_section
from ..evaluation.halting import halting_section
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig, RecursiveReasoner
from ..models.neural_memory import MemoryConfig
from ..models.titans_mag import BackboneConfig
from ..models.trm_wrapper import RecursionConfig
from ..training.task import ReportSection, Row
from .puzzles import PuzzleTask

GRID25M = ReasonerConfig(
    backbone=BackboneConfig(
        width=768,
        layers=2,
        heads=12,
        hidden_width=3392,
        memory=MemoryConfig(heads=12, depth=2, features=128),
    ),
)
TRM7M = ReasonerConfig(
    backbone=BackboneConfig(width=512, layers=2, heads=8, hidden_width=1536, use_memory=False),
    halting=HaltingConfig(pool="first", initial_bias=-5.0),
    learn_persistent=False,
    normaliser="stablemax",
)
SMALL = ReasonerConfig(
    backbone=BackboneConfig(
        width=96,
        layers=2,
        heads=4,
        hidden_width=256,
        memory=MemoryConfig(heads=2, convolution=1),
    ),
    # few passes in a step: hard puzzles then need more steps than easy ones
    recursion=RecursionConfig(latent_steps=1, recursions=1),
    halting=HaltingConfig(threshold=0.9),
    persistent_tokens=4,
)
SMOKE = replace(
    SMALL,
    backbone=BackboneConfig(
        width=32,
        layers=1,
        heads=2,
        hidden_width=64,
        memory=MemoryConfig(heads=2, convolution=1),
    ),
    recursion=RecursionConfig(latent_steps=1, recursions=2),
    halting=HaltingConfig(max_steps=4),
)
PUZZLE_TRAINING = TrainingConfig(
    steps=50_000,
    batch_size=768,
    learning_rate=1e-4,
    schedule="constant",
    warmup_steps=2_000,
    weight_decay=1.0,
    beta2=0.95,
    precision="bf16",
    ema_decay=0.999,
    select_on="ema",
)
"""TRM's, appendix A, with AdamW in place of AdamATan2."""


@dataclass(frozen=True, kw_only=True)
class SudokuConfig(RunConfig):
    """Everything a run on Sudoku is told."""

    data: SudokuDataConfig = SudokuDataConfig()
    model: ReasonerConfig = GRID25M


class SudokuTask(PuzzleTask[SudokuConfig]):
    """Every cell of the solution, from the given ones."""

    name = "sudoku"
    config_type = SudokuConfig
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
        """The set that comes with the project, or the one that `data.folder` names."""
        return load_sudoku_splits(self.config.data)

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

    def report_sections(self, rows: Sequence[Row], folder: Path) -> list[ReportSection]:
        """Accuracy by empty cells; steps taken, and against the first step that was right."""
        return [difficulty_section(rows, folder, "empty cells"), halting_section(rows, folder)]

    def example_input(self) -> tuple[Tensor]:
        """One empty grid."""
        return (torch.ones(1, self.config.data.cells, dtype=torch.int64),)

    def example_candidate(self) -> Batch:
        """A puzzle that is made here."""
        puzzle = puzzle_at(0, self.config.data.side, "minimal", 0)
        return SudokuPuzzles([puzzle], 0, augment=False).example(0, None)


def grid25m() -> SudokuConfig:
    """`profile --preset grid25m`: attention and memory, 25,606,777 parameters. Not trained yet."""
    # `profile --fit-vram 5GiB` finds room for 8 examples with all activations, for 70 without
    training = replace(PUZZLE_TRAINING, accumulation_steps=12, activation_checkpointing=True)
    return SudokuConfig(training=training)


def trm7m() -> SudokuConfig:
    """`profile --preset trm7m`: TRM with attention, 6,828,034 parameters. Not trained yet."""
    return SudokuConfig(model=TRM7M, training=replace(PUZZLE_TRAINING, accumulation_steps=8))


def trm7m_mixing() -> SudokuConfig:
    """`profile --preset trm7m_mixing`: TRM's MLP form, 5,028,866 parameters. Not trained yet."""
    backbone = replace(TRM7M.backbone, mixer="tokens")
    return SudokuConfig(
        model=replace(TRM7M, backbone=backbone),
        training=replace(PUZZLE_TRAINING, accumulation_steps=12),
    )


def default() -> SudokuConfig:
    """`train --preset default`: 6 x 6 (to be measured)."""
    return SudokuConfig(
        data=SudokuDataConfig(side=6),
        model=SMALL,
        training=TrainingConfig(
            steps=5000, batch_size=32, learning_rate=1e-3, schedule="wsd", warmup_steps=100,
            weight_decay=0.1, beta2=0.95, ema_decay=0.995, select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=1250),
        checkpoint=CheckpointConfig(every_steps=1250),
    )  # fmt: skip


def sudoku4() -> SudokuConfig:
    """`train --preset sudoku4`: 4 x 4 (to be measured)."""
    return SudokuConfig(
        data=SudokuDataConfig(side=4),
        model=replace(SMALL, halting=replace(SMALL.halting, max_steps=8)),
        training=TrainingConfig(
            steps=2000, batch_size=32, learning_rate=1e-3, schedule="wsd", warmup_steps=100,
            weight_decay=0.1, beta2=0.95, ema_decay=0.995, select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=1000),
        checkpoint=CheckpointConfig(every_steps=1000),
    )  # fmt: skip


def smoke() -> SudokuConfig:
    """`train --preset smoke`: every part, memory too, on 4 x 4 in seconds; learns little."""
    return SudokuConfig(
        data=SudokuDataConfig(side=4),
        model=SMOKE,
        training=TrainingConfig(
            steps=60, batch_size=32, learning_rate=3e-3, warmup_steps=5, ema_decay=0.9,
            select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=30),
        checkpoint=CheckpointConfig(every_steps=30),
    )  # fmt: skip


SudokuTask.presets = {
    "default": default,
    "grid25m": grid25m,
    "smoke": smoke,
    "sudoku4": sudoku4,
    "trm7m": trm7m,
    "trm7m_mixing": trm7m_mixing,
}
