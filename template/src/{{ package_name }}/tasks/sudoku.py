"""Sudoku as a grid: all cells at once, refined until the head says they are right."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import CheckpointConfig, EvaluationConfig, RunConfig, TrainingConfig
from ..data.dataset import Batch, Dataset, Splits
from ..data.sudoku import EMPTY_TOKEN, SudokuDataConfig, load_sudoku_splits
from ..evaluation.difficulty import difficulty_section
from ..evaluation.halting import halting_section
from ..evaluation.sudoku_steps import sudoku_steps_section
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig, RecursiveReasoner
from ..models.neural_memory import MemoryConfig
from ..models.titans_mag import BackboneConfig
from ..models.trm_wrapper import RecursionConfig
from ..training.task import ReportSection, Row
from .deep_supervision import DeepSupervisionTask, reasoner_of

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
    backbone=BackboneConfig(width=96, layers=2, heads=4, hidden_width=256, use_memory=False),
    recursion=RecursionConfig(latent_steps=3, recursions=2),
    persistent_tokens=4,
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


class SudokuTask(DeepSupervisionTask[SudokuConfig]):
    """Every cell of the solution, from the given ones."""

    name = "sudoku"
    config_type = SudokuConfig
    primary_metric = "accuracy"

    def build_model(self) -> nn.Module:
        """The reasoner for the cells and digits of the puzzles."""
        data = self.config.data
        return RecursiveReasoner(self.config.model, vocabulary=data.vocabulary, tokens=data.cells)

    def datasets(self) -> Splits:
        """The set that comes with the project, or the one that `data.folder` names."""
        return load_sudoku_splits(self.config.data)

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

    def inspection_sections(
        self, model: nn.Module, rows: Sequence[Row], examples: Dataset, folder: Path
    ) -> list[ReportSection]:
        """A puzzle solved step by step, then what all tasks of the reasoner tell."""
        shown = sudoku_steps_section(reasoner_of(model), rows, examples, folder)
        return [shown, *super().inspection_sections(model, rows, examples, folder)]

    def example_input(self) -> tuple[Tensor]:
        """One empty grid."""
        return (torch.ones(1, self.config.data.cells, dtype=torch.int64),)


def grid25m() -> SudokuConfig:
    """`profile --preset grid25m`: attention and memory, 25,606,777 parameters. Not trained yet."""
    return SudokuConfig(training=PUZZLE_TRAINING)


def trm7m() -> SudokuConfig:
    """`profile --preset trm7m`: TRM with attention, 6,828,034 parameters. Not trained yet."""
    return SudokuConfig(model=TRM7M, training=PUZZLE_TRAINING)


def trm7m_mixing() -> SudokuConfig:
    """`profile --preset trm7m_mixing`: TRM's MLP form, 5,028,866 parameters. Not trained yet."""
    backbone = replace(TRM7M.backbone, mixer="tokens")
    return SudokuConfig(model=replace(TRM7M, backbone=backbone), training=PUZZLE_TRAINING)


def sudoku6() -> SudokuConfig:
    """`train --preset sudoku6`: with 2,000 steps 89 % of validation's 6 x 6 puzzles exactly.

    Of 255 with 8 to 23 blanks or minimal (seed 0, averaged weights); about a quarter of an hour
    on one busy core, half of what the preset's 4,000 steps take.
    """
    return SudokuConfig(
        data=SudokuDataConfig(side=6),
        model=SMALL,
        training=TrainingConfig(
            steps=4000, batch_size=32, learning_rate=1e-3, schedule="wsd", warmup_steps=100,
            weight_decay=0.1, beta2=0.95, ema_decay=0.995, select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=1000),
        checkpoint=CheckpointConfig(every_steps=1000),
    )  # fmt: skip


def sudoku4() -> SudokuConfig:
    """`train --preset sudoku4`: 4 x 4 on a tiny model, a few seconds, for tests; learns little."""
    small = replace(SMALL.backbone, width=32, layers=1, hidden_width=64)
    recursion = RecursionConfig(latent_steps=1, recursions=2)
    halting = HaltingConfig(max_steps=4)
    return SudokuConfig(
        data=SudokuDataConfig(side=4),
        model=replace(SMALL, backbone=small, recursion=recursion, halting=halting),
        training=TrainingConfig(
            steps=60, batch_size=32, learning_rate=3e-3, warmup_steps=5, ema_decay=0.9,
            select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=30),
        checkpoint=CheckpointConfig(every_steps=30),
    )  # fmt: skip


SudokuTask.presets = {
    "grid25m": grid25m,
    "sudoku4": sudoku4,
    "sudoku6": sudoku6,
    "trm7m": trm7m,
    "trm7m_mixing": trm7m_mixing,
}
