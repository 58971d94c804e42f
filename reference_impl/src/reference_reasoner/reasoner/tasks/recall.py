"""Recalling values by their keys, from beyond the attention's window."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...engine.config.fields import require
from ...engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    TrainingConfig,
)
from ...engine.data.dataset import Batch, Splits
from ...engine.evaluation.predictions import predict
from ..data.recall import Recall, RecallDataConfig, load_recall_splits, with_gap
from ..models.act_head import HaltingConfig
from ..models.full_model import ReasonerConfig, RecursiveReasoner
from ..models.memory.config import MemoryConfig
from ..models.titans_mag import BackboneConfig
from ..models.trm_wrapper import RecursionConfig
from .deep_supervision import DeepSupervisionTask

ONE_PASS = RecursionConfig(latent_steps=1, recursions=1)
TINY = ReasonerConfig(
    backbone=BackboneConfig(
        width=64,
        layers=2,
        heads=1,
        hidden_width=192,
        causal=True,
        window=16,
        memory=MemoryConfig(heads=1),
        gate_bias=1.0,
    ),
    recursion=ONE_PASS,
    halting=HaltingConfig(max_steps=1),
    persistent_tokens=4,
    initial_std=0.0,  # learned recall sooner than 1 on the one seed that was tried
    tie_embeddings=True,
)
SMOKE = replace(
    TINY,
    backbone=replace(TINY.backbone, width=32, layers=1, hidden_width=48, window=4),
    recursion=RecursionConfig(latent_steps=1, recursions=2),
    halting=HaltingConfig(max_steps=3),
)
LM25M = ReasonerConfig(
    backbone=BackboneConfig(
        width=512,
        layers=5,
        heads=8,
        hidden_width=1600,
        causal=True,
        window=512,
        memory=MemoryConfig(heads=8, depth=2, features=128, chunk=128, write="first_pass"),
    ),
    recursion=RecursionConfig(latent_steps=2, recursions=1),
    halting=HaltingConfig(max_steps=2),
    tie_embeddings=True,
)


@dataclass(frozen=True, kw_only=True)
class RecallConfig(RunConfig):
    """Everything a run on recall is told."""

    data: RecallDataConfig = RecallDataConfig()
    model: ReasonerConfig = TINY

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.model.backbone.causal,
            "model.backbone.causal must be True: recall is a sequence, and a query comes after "
            "its value",
        )


class RecallTask(DeepSupervisionTask[RecallConfig]):
    """The task of associative recall: each queried key's value, at the query's position."""

    name = "recall"
    config_type = RecallConfig
    primary_metric = "token_accuracy"
    causal = True

    def build_model(self) -> nn.Module:
        """The causal reasoner for the data's alphabet."""
        data = self.config.data
        return RecursiveReasoner(self.config.model, vocabulary=data.vocabulary, tokens=data.length)

    def datasets(self) -> Splits:
        """Drawn, not stored: training examples are new in each epoch."""
        return load_recall_splits(self.config.data)

    def accuracy_at_gap(self, model: nn.Module, gap: int) -> tuple[RecallDataConfig, float, int]:
        """(data, share of right answers, number of answers) on validation with another gap.

        `model` is on its device; it takes any length.
        """
        data = with_gap(self.config.data, gap)
        task = RecallTask(replace(self.config, data=data))
        device = next(model.parameters()).device
        rows = predict(
            task,
            model,
            task.datasets().validation,
            batch_size=self.config.evaluation.batch_size,
            device=device,
        )
        return data, task.scores(rows)["token_accuracy"], len(rows) * data.queries

    def example_input(self) -> tuple[Tensor]:
        """One example of padding."""
        return (torch.zeros(1, self.config.data.length, dtype=torch.int64),)

    def example_candidate(self) -> Batch:
        """An example; all of them are drawn."""
        return Recall(config=self.config.data, split="train").example(0, None)


def recall() -> RecallConfig:
    """`train --preset recall`: 99.9 % of the test split's answers right (seeds 0 to 2).

    159,561 parameters; four minutes on one core. Twice the trained distance keeps 99.9 %, four
    times 99.7 %, eight times 99.8, 99.7 and 87.6 %. Without memory 1.4 to 1.6 %, which is chance:
    attention does not reach from a query to its value.
    """
    return RecallConfig(
        training=TrainingConfig(
            steps=400, batch_size=32, learning_rate=2e-3, schedule="wsd", decay_fraction=0.25,
            warmup_steps=50, beta2=0.95,
        ),
        evaluation=EvaluationConfig(every_steps=100),
        checkpoint=CheckpointConfig(every_steps=100),
    )  # fmt: skip


def recall_smoke() -> RecallConfig:
    """`train --preset recall_smoke`: 27 to 30 % of answers, of which 25 % are chance (seeds 0, 1).

    15,429 parameters and every part, three supervision steps among them; five seconds.
    """
    return RecallConfig(
        data=RecallDataConfig(
            pairs=2, keys=4, values=4, gap=8, train_examples=512,
            validation_examples=64, test_examples=64,
        ),
        model=SMOKE,
        training=TrainingConfig(
            steps=60, batch_size=16, learning_rate=5e-3, warmup_steps=5, ema_decay=0.9,
            select_on="ema",
        ),
        evaluation=EvaluationConfig(every_steps=20, batch_size=64),
        checkpoint=CheckpointConfig(every_steps=20),
    )  # fmt: skip


def lm25m() -> RecallConfig:
    """`profile --preset lm25m`: 25,676,489 parameters, a vocabulary of 4,096. Not trained yet.

    A micro-batch is two sequences of 2,048 tokens, whose activations are recomputed: eager they
    would be 8 GB.
    """
    return RecallConfig(
        data=RecallDataConfig(pairs=256, keys=2031, values=2048, gap=1280),
        model=LM25M,
        training=TrainingConfig(
            steps=20_000, batch_size=32, learning_rate=6e-4, warmup_steps=2_000,
            weight_decay=0.1, beta2=0.95, precision="bf16", ema_decay=0.999, select_on="ema",
            accumulation_steps=16, activation_checkpointing=True,
        ),
    )  # fmt: skip


RecallTask.presets = {
    "default": recall,
    "lm25m": lm25m,
    "recall": recall,
    "recall_smoke": recall_smoke,
    "smoke": recall_smoke,
}
RecallTask.ablations = {
    "no_memory": {
        "model.backbone.use_memory": False,
        "model.backbone.memory.write": "every_pass",
    },
    "multiplying_gate": {"model.backbone.gate": "multiply"},
}
