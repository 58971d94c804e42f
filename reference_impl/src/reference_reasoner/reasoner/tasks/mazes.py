"""Mazes as a grid: which cells are on the shortest path from start to goal?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from ...engine.config.fields import require
from ...engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    TrainingConfig,
)
from ...engine.data.dataset import Batch, Dataset, Splits
from ...engine.training.task import ReportSection, Row
from ..data.maze_rules import ALPHABET, PATH, given_mazes, is_solution, to_text
from ..data.mazes import (
    VOCABULARY,
    GivenMazes,
    MazeDataConfig,
    Mazes,
    characters_of,
    load_maze_splits,
    tokens_of,
)
from ..data.puzzle_files import Given
from ..evaluation.difficulty import difficulty_section
from ..evaluation.halting import halting_section
from ..evaluation.maze_steps import maze_steps_section
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig, RecursiveReasoner
from ..models.memory.config import MemoryConfig
from ..models.titans_mag import BackboneConfig
from ..models.trm_wrapper import RecursionConfig
from .course import Course
from .puzzles import PuzzleTask

SMALL = ReasonerConfig(
    # mixing over positions learns who is whose neighbour; attention did not in these minutes
    backbone=BackboneConfig(
        width=96, layers=2, heads=4, hidden_width=256, mixer="tokens", use_memory=False
    ),
    recursion=RecursionConfig(latent_steps=2, recursions=1),
    halting=HaltingConfig(max_steps=4, threshold=0.9),
    persistent_tokens=4,
)
SMOKE = ReasonerConfig(
    backbone=BackboneConfig(
        width=16, layers=1, heads=2, hidden_width=32, memory=MemoryConfig(heads=2)
    ),
    recursion=RecursionConfig(latent_steps=1, recursions=2),
    halting=HaltingConfig(max_steps=3),
    persistent_tokens=2,
)


@dataclass(frozen=True, kw_only=True)
class MazeConfig(RunConfig):
    """Everything a run on mazes is told."""

    data: MazeDataConfig = MazeDataConfig()
    model: ReasonerConfig = SMALL

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.model.backbone.causal,
            "model.backbone.causal must be False: a cell's answer depends on cells after it",
        )


class MazeTask(PuzzleTask[MazeConfig]):
    """The task of mazes: every cell of the solution; right is a maze whose path is exact."""

    name = "mazes"
    config_type = MazeConfig
    primary_metric = "accuracy"
    form = (
        "mazes of N lines with N characters ('#', ' ', 'S', 'G'), an empty line after each, one "
        "shortest path in each"
    )
    vocabulary = VOCABULARY

    @property
    def size(self) -> int:
        """Rows and columns in characters, walls included."""
        return self.config.data.size

    def build_model(self) -> nn.Module:
        """The reasoner for the cells of the mazes."""
        return RecursiveReasoner(
            self.config.model, vocabulary=VOCABULARY, tokens=self.config.data.cells
        )

    def datasets(self) -> Splits:
        """Drawn, not stored: training examples are new in each epoch."""
        return load_maze_splits(self.config.data)

    def given(self, file: IO[bytes]) -> Iterator[Given]:
        """One maze a block of lines."""
        return given_mazes(file)

    def tokens(self, puzzle: str) -> list[int]:
        """Token ids of the characters."""
        tokens: list[int] = tokens_of(puzzle).tolist()
        return tokens

    def answer(self, tokens: Sequence[int]) -> str:
        """The characters; `?` for padding."""
        return characters_of(tokens)

    def is_solution(self, puzzle: str, answer: str) -> bool:
        """Whether nothing but a shortest path was added."""
        return is_solution(puzzle, answer)

    def grid(self, text: str) -> str:
        """Its lines."""
        return to_text(text)

    def labelled(self, puzzles: Sequence[Given]) -> tuple[Dataset, list[Given]]:
        """With the shortest path, which every maze that could be read has."""
        return GivenMazes(tuple(each.puzzle for each in puzzles)), []

    def slices(self, batch: Batch, row: int) -> dict[str, str]:
        """`difficulty`: moves of the shortest path."""
        path = 1 + ALPHABET.index(PATH)
        return {"difficulty": str(int((batch["labels"][row] == path).sum()) + 1)}

    def _row(self, batch: Batch, row: int, taken: int, course: Course) -> Row:
        """With the maze, its solution and the answer of each step as text, for the report."""
        plain = super()._row(batch, row, taken, course)
        texts = {
            "puzzle": characters_of(batch["tokens"][row].tolist()),
            "solution": characters_of(plain.target),
            "answers": [characters_of(answer) for answer in course.answers[:, row].tolist()],
        }
        return replace(plain, output={**plain.output, **texts})

    def report_sections(self, rows: Sequence[Row], folder: Path) -> list[ReportSection]:
        """Halting, scores by path length, and a maze solved step by step."""
        return [
            halting_section(rows, folder),
            difficulty_section(rows, folder, "length of the path in moves"),
            maze_steps_section(rows, folder),
        ]

    def example_input(self) -> tuple[Tensor]:
        """One maze of padding."""
        return (torch.zeros(1, self.config.data.cells, dtype=torch.int64),)

    def example_candidate(self) -> Batch:
        """A maze; all of them are drawn."""
        return Mazes(config=self.config.data, split="train").example(0, None)


def maze() -> MazeConfig:
    """`train --preset maze`: 89 to 95 % of 9 x 9 test mazes exactly, in 10 minutes on one core.

    279,745 parameters. 89.3, 95.3 and 93.6 % (seeds 0 to 2) of 512 mazes with paths of 4 moves
    and more, averaged weights.
    """
    return MazeConfig(
        training=TrainingConfig(
            steps=2600, batch_size=32, learning_rate=1e-3, schedule="wsd", decay_fraction=0.25,
            warmup_steps=100, weight_decay=0.1, beta2=0.95, ema_decay=0.99, select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=1300),
        checkpoint=CheckpointConfig(every_steps=1300),
    )  # fmt: skip


def maze_smoke() -> MazeConfig:
    """`train --preset maze_smoke`: every part, memory among them, in seconds; it solves nothing."""
    return MazeConfig(
        data=MazeDataConfig(
            size=7, train_examples=512, validation_examples=16, test_examples=16
        ),
        model=SMOKE,
        training=TrainingConfig(
            steps=12, batch_size=16, learning_rate=3e-3, warmup_steps=2, ema_decay=0.9,
            select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=6, batch_size=32),
        checkpoint=CheckpointConfig(every_steps=6),
    )  # fmt: skip


MazeTask.presets = {
    "default": maze,
    "maze": maze,
    "maze_smoke": maze_smoke,
    "smoke": maze_smoke,
}
