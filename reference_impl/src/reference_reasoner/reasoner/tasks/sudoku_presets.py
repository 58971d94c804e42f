"""What a run on Sudoku is told, and the presets: models, data and training that go together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    RuntimeConfig,
    TrainingConfig,
)
from ..data.sudoku import SudokuDataConfig
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig
from ..models.memory.config import MemoryConfig
from ..models.titans_mag import BackboneConfig
from ..models.trm_wrapper import RecursionConfig

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
ON_A_GPU = RuntimeConfig(loader_workers=4)
"""A batch of hundreds of puzzles takes one process longer than a third of a GPU's step."""


@dataclass(frozen=True, kw_only=True)
class SudokuConfig(RunConfig):
    """Everything a run on Sudoku is told."""

    data: SudokuDataConfig = SudokuDataConfig()
    model: ReasonerConfig = GRID25M


def grid25m() -> SudokuConfig:
    """`profile --preset grid25m`: attention and memory, 25,606,777 parameters. Not trained yet."""
    # `profile --fit-vram 5GiB` finds room for 8 examples with all activations, for 70 without
    training = replace(PUZZLE_TRAINING, accumulation_steps=12, activation_checkpointing=True)
    return SudokuConfig(training=training, runtime=ON_A_GPU)


def trm7m() -> SudokuConfig:
    """`profile --preset trm7m`: TRM with attention, 6,828,034 parameters. Not trained yet."""
    training = replace(PUZZLE_TRAINING, accumulation_steps=8)
    return SudokuConfig(model=TRM7M, training=training, runtime=ON_A_GPU)


def trm7m_mixing() -> SudokuConfig:
    """`profile --preset trm7m_mixing`: TRM's MLP form, 5,028,866 parameters. Not trained yet."""
    backbone = replace(TRM7M.backbone, mixer="tokens")
    return SudokuConfig(
        model=replace(TRM7M, backbone=backbone),
        training=replace(PUZZLE_TRAINING, accumulation_steps=12),
        runtime=ON_A_GPU,
    )


def sudoku9() -> SudokuConfig:
    """`train --preset sudoku9`: 97 % of 500 9 x 9 test puzzles, in 7 minutes on one H200.

    `trm7m_mixing` with fewer passes a step, smaller batches and a larger learning rate. 99, 99 and
    93 % of those of 0, 1 to 4, and 5 and more guesses, one seed; with `--runtime.compile True
    --runtime.determinism off --runtime.loader-workers 8`, and 25,000 puzzles more than ship
    (`generate`, `--data.folder`).
    """
    backbone = replace(TRM7M.backbone, mixer="tokens")
    recursion = RecursionConfig(latent_steps=2, recursions=2)
    return SudokuConfig(
        model=replace(TRM7M, backbone=backbone, recursion=recursion),
        training=replace(
            PUZZLE_TRAINING, steps=11_000, batch_size=384, learning_rate=4e-4, schedule="wsd",
            decay_fraction=0.3, warmup_steps=200, ema_decay=0.998,
        ),
        runtime=ON_A_GPU,
        evaluation=EvaluationConfig(every_steps=1000),
        checkpoint=CheckpointConfig(every_steps=1000),
    )  # fmt: skip


def sudoku6_mixing() -> SudokuConfig:
    """`train --preset sudoku6_mixing`: 98 to 99 % of 6 x 6 test puzzles, 2 minutes on one core.

    The recipe of `default`, but a SwiGLU over the cells in place of attention and memory, and 1,500
    steps in place of 5,000. 98.5, 99.3 and 98.7 % (seeds 0 to 2), 1.8 to 2.0 steps on average.
    """
    backbone = replace(SMALL.backbone, mixer="tokens", use_memory=False)
    recipe = default()
    return replace(
        recipe,
        model=replace(SMALL, backbone=backbone),
        training=replace(recipe.training, steps=1500),
    )


def default() -> SudokuConfig:
    """`train --preset default`: 98 to 99 % of 6 x 6 test puzzles, in 8 minutes on one core.

    309,333 parameters. 98.9, 97.6 and 98.8 % (seeds 0 to 2) of 2,040 puzzles with 8 to 23 blanks
    or minimal ones (86, 73 and 91 % of those), averaged weights, stopping after 2.3 to 2.9 of 16
    steps on average. Weights of an earlier training of seed 0 ship (98.9 %). With a weight decay of
    0.1 it learns far less well.
    """
    return SudokuConfig(
        data=SudokuDataConfig(side=6),
        model=SMALL,
        training=TrainingConfig(
            steps=5000, batch_size=32, learning_rate=1e-3, schedule="wsd", warmup_steps=100,
            weight_decay=1.0, beta2=0.95, ema_decay=0.995, select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=1250),
        checkpoint=CheckpointConfig(every_steps=1250),
    )  # fmt: skip


def sudoku4() -> SudokuConfig:
    """`train --preset sudoku4`: 98 to 99 % of 500 4 x 4 test puzzles, in 3 minutes on one core.

    The model of `default` (seed 0, averaged weights). These weights ship.
    """
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


PRESETS: dict[str, Callable[[], SudokuConfig]] = {
    "default": default,
    "grid25m": grid25m,
    "smoke": smoke,
    "sudoku4": sudoku4,
    "sudoku6_mixing": sudoku6_mixing,
    "sudoku9": sudoku9,
    "trm7m": trm7m,
    "trm7m_mixing": trm7m_mixing,
}

ABLATIONS: dict[str, dict[str, Any]] = {
    "one_step": {"model.halting.max_steps": 1},
    "two_recursions": {"model.recursion.recursions": 2},
    "no_exploration": {"model.halting.exploration": 0.0},
    "diversity": {"model.halting.diversity_weight": 0.05},
    "raw_weights": {"training.ema_decay": 0.0, "training.select_on": "raw"},
    "no_memory": {"model.backbone.use_memory": False},
    "little_decay": {"training.weight_decay": 0.1},
}
"""One thing at a time: deep supervision, recursion, halting (twice), EMA, memory, decay."""
