"""A private task for the tests: which cells of a corridor does water reach from its source?

Cells are open (1), wall (2) or the source (3); a cell's label is 1 if it is dry and 2 if it is
wet. The farther the water runs, the more steps of a local rule it takes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    TrainingConfig,
)
from reference_reasoner.engine.data.dataset import Batch, Splits
from reference_reasoner.engine.seeding import torch_generator
from reference_reasoner.reasoner.models.act_head import HaltingConfig
from reference_reasoner.reasoner.models.full_model import ReasonerConfig, RecursiveReasoner
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig
from reference_reasoner.reasoner.models.trm_wrapper import RecursionConfig
from reference_reasoner.reasoner.tasks.deep_supervision import DeepSupervisionTask

CELLS = 10
OPEN, WALL, SOURCE = 1, 2, 3
DRY, WET = 1, 2
MODEL = ReasonerConfig(
    backbone=BackboneConfig(
        width=24,
        layers=1,
        heads=2,
        hidden_width=32,
        memory=MemoryConfig(heads=2, depth=2, features=12),
    ),
    recursion=RecursionConfig(latent_steps=1, recursions=2),
    halting=HaltingConfig(max_steps=4, exploration=0.5, diversity_weight=0.05),
    persistent_tokens=2,
)


def corridor(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """tokens and labels, int64 [CELLS] each."""
    tokens = torch.where(torch.rand(CELLS, generator=generator) < 0.2, WALL, OPEN)
    source = int(torch.randint(CELLS, (), generator=generator))
    tokens[source] = SOURCE
    labels = torch.full((CELLS,), DRY)
    for step in (-1, 1):
        cell = source
        while 0 <= cell < CELLS and tokens[cell] != WALL:
            labels[cell] = WET
            cell += step
    return tokens, labels


@dataclass(frozen=True, kw_only=True)
class Corridors:
    """Example i of a split is a function of (split, i) alone."""

    split: str
    examples: int

    def __len__(self) -> int:
        return self.examples

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        tokens, labels = corridor(torch_generator(0, self.split, index))
        return {"example_id": torch.tensor(index), "tokens": tokens, "labels": labels}


@dataclass(frozen=True, kw_only=True)
class FloodFillDataConfig:
    examples: int = 48


@dataclass(frozen=True, kw_only=True)
class FloodFillConfig(RunConfig):
    data: FloodFillDataConfig = FloodFillDataConfig()
    model: ReasonerConfig = MODEL


class FloodFillTask(DeepSupervisionTask[FloodFillConfig]):
    name = "flood_fill"
    config_type = FloodFillConfig
    primary_metric = "accuracy"

    def build_model(self) -> nn.Module:
        return RecursiveReasoner(self.config.model, vocabulary=4, tokens=CELLS)

    def datasets(self) -> Splits:
        count = self.config.data.examples
        parts = {
            name: Corridors(split=name, examples=count) for name in ("train", "validation", "test")
        }
        return Splits(**parts, fingerprint=f"flood fill {count}")

    def example_input(self) -> tuple[Tensor]:
        return (torch.ones(1, CELLS, dtype=torch.int64),)

    def slices(self, batch: Batch, row: int) -> dict[str, str]:
        return {"difficulty": str(int((batch["labels"][row] == WET).sum()))}


def flood_fill() -> FloodFillConfig:
    """A few steps with every part: carry, exploration, diversity, EMA."""
    return FloodFillConfig(
        training=TrainingConfig(
            steps=12, batch_size=8, learning_rate=3e-3, warmup_steps=0, ema_decay=0.9,
            select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=4, batch_size=16),
        checkpoint=CheckpointConfig(every_steps=4),
    )  # fmt: skip


FloodFillTask.presets = {"flood_fill": flood_fill}
