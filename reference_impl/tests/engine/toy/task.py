"""A small task that asks everything of the trainer: a carry, two terms, rows that leave.

Each row is a hidden state that a network refines over several steps. A row leaves the batch
once its prediction is right (or after `max_refinements`), and a candidate takes its place.
The two terms have different divisors: every row has a target for `label`, and only some have
one for `value`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    RuntimeConfig,
    TrackingConfig,
    TrainingConfig,
)
from reference_reasoner.engine.data.dataset import Batch, Splits
from reference_reasoner.engine.seeding import torch_generator
from reference_reasoner.engine.training.task import Carry, LossOutput, Row, StepKeys, Task

CLASSES = 3
FEATURES = 6


@dataclass(frozen=True, kw_only=True)
class ToyDataConfig:
    """What the toy data is made of."""

    examples: int = 60
    """Training examples; validation and test have half as many."""
    noise: float = 0.1
    """Standard deviation of the augmentation noise."""


@dataclass(frozen=True, kw_only=True)
class ToyModelConfig:
    """The toy network."""

    width: int = 8
    """Hidden width."""
    dropout: float = 0.1
    """Dropout probability."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"model.width must be at least 1, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class ToyConfig(RunConfig):
    """Everything a toy run is told."""

    data: ToyDataConfig = ToyDataConfig()
    model: ToyModelConfig = ToyModelConfig()
    use_carry: bool = True
    """Whether rows stay in the batch until they are solved."""


class ToyDataset:
    """Points around three centres; `value` is known for two rows in three."""

    def __init__(self, name: str, examples: int, noise: float) -> None:
        generator = torch_generator(0, "toy", name)
        self.labels = torch.arange(examples) % CLASSES
        centres = torch.eye(CLASSES, FEATURES)
        spread = 0.2 * torch.randn(examples, FEATURES, generator=generator)
        self.points = centres[self.labels] + spread
        self.noise = noise

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        point = self.points[index]
        if generator is not None:
            point = point + self.noise * torch.randn(FEATURES, generator=generator)
        known = index % 3 != 0
        return {
            "example_id": torch.tensor(index),
            "point": point,
            "label": self.labels[index],
            "value": point.sum(),
            "value_known": torch.tensor(known),
        }


class ToyNet(nn.Module):
    """(point [B, F], latent [B, W]) -> latent [B, W], class logits [B, C], value [B]."""

    def __init__(self, config: ToyModelConfig) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, config.width)
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.Linear(config.width, config.width), nn.Tanh())]
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, CLASSES + 1)

    def forward(self, point: Tensor, latent: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = self.embed(point) + latent
        for block in self.blocks:
            hidden = hidden + block(self.dropout(hidden))
        out = self.head(hidden)
        return hidden, out[:, :CLASSES], out[:, CLASSES]


class ToyTask(Task[ToyConfig]):
    """Refine until right."""

    name = "toy"
    config_type = ToyConfig
    primary_metric = "accuracy"
    max_refinements = 3

    def build_model(self) -> nn.Module:
        return ToyNet(self.config.model)

    def datasets(self) -> Splits:
        data = self.config.data
        return Splits(
            train=ToyDataset("train", data.examples, data.noise),
            validation=ToyDataset("validation", data.examples // 2, 0.0),
            test=ToyDataset("test", data.examples // 2, 0.0),
            fingerprint=f"toy-{data.examples}-{data.noise}",
        )

    def begin(self, carry: Carry | None, candidates: Batch) -> tuple[Batch, Carry | None]:
        if not self.config.use_carry:
            return candidates, None
        rows = len(candidates["label"])
        fresh = {
            "latent": torch.zeros(rows, self.config.model.width),
            "refinements": torch.zeros(rows, dtype=torch.int64),
        }
        if carry is None:
            return candidates, fresh | {f"row_{name}": v for name, v in candidates.items()}
        leaves = carry["done"]
        batch = {
            name: torch.where(leaves.view(-1, *[1] * (v.ndim - 1)), v, carry[f"row_{name}"])
            for name, v in candidates.items()
        }
        kept = {
            name: torch.where(leaves.view(-1, *[1] * (v.ndim - 1)), v, carry[name])
            for name, v in fresh.items()
        }
        return batch, kept | {f"row_{name}": v for name, v in batch.items()}

    def counts(self, batch: Batch, carry: Carry | None) -> dict[str, int]:
        return {"label": len(batch["label"]), "value": int(batch["value_known"].sum())}

    def loss(
        self, model: nn.Module, batch: Batch, carry: Carry | None, keys: StepKeys
    ) -> LossOutput:
        latent = torch.zeros(len(batch["label"]), self.config.model.width)
        latent = latent if carry is None else carry["latent"]
        hidden, logits, value = model(batch["point"], latent)
        label_sum = nn.functional.cross_entropy(logits, batch["label"], reduction="sum")
        squared = (value - batch["value"]) ** 2
        value_sum = squared[batch["value_known"]].sum()
        right = logits.argmax(-1) == batch["label"]
        following = None
        if carry is not None:
            refinements = carry["refinements"] + 1
            following = {
                **carry,
                "latent": hidden.detach(),
                "refinements": refinements,
                "done": right | (refinements >= self.max_refinements),
            }
        return LossOutput(
            terms={"label": label_sum, "value": value_sum},
            metrics={"right": right.float().mean()},
            carry=following,
        )

    def predict(self, model: nn.Module, batch: Batch) -> list[Row]:
        latent = torch.zeros(len(batch["label"]), self.config.model.width)
        for _ in range(2):
            latent, logits, _ = model(batch["point"], latent)
        probabilities = logits.softmax(-1)
        return [
            Row(
                example_id=int(batch["example_id"][row]),
                target=int(batch["label"][row]),
                output=probabilities[row].tolist(),
                confidence=float(probabilities[row].max()),
            )
            for row in range(len(latent))
        ]

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        right = [max(range(CLASSES), key=row.output.__getitem__) == row.target for row in rows]
        return {"accuracy": sum(right) / len(right)}

    def example_input(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, FEATURES), torch.zeros(1, self.config.model.width)


def toy() -> ToyConfig:
    """Twenty steps on a CPU, in under a second."""
    return ToyConfig(
        training=TrainingConfig(steps=20, batch_size=12, warmup_steps=2, learning_rate=1e-2),
        runtime=RuntimeConfig(device="cpu"),
        evaluation=EvaluationConfig(every_steps=5),
        checkpoint=CheckpointConfig(every_steps=4),
        tracking=TrackingConfig(log_every_steps=1),
    )


ToyTask.presets = {"default": toy, "smoke": toy, "toy": toy}
