"""Sudoku as a grid: all cells at once, refined until the head says they are right."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..config import RunConfig, TrainingConfig
from ..data.dataset import Splits
from ..data.sudoku import SudokuDataConfig
from ..errors import RefusedInputError
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig, RecursiveReasoner
from ..models.neural_memory import MemoryConfig
from ..models.titans_mag import BackboneConfig
from .deep_supervision import DeepSupervisionTask

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
        """Raises RefusedInputError: no puzzles come with this version."""
        raise RefusedInputError(
            "there are no Sudoku puzzles in this version of the project: `profile` can look at "
            "the model, but training needs data; train the preset `default` (recall) instead"
        )

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


SudokuTask.presets = {"grid25m": grid25m, "trm7m": trm7m, "trm7m_mixing": trm7m_mixing}
