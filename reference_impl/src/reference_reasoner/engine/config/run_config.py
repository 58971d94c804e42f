"""What a run is told: frozen dataclasses that check themselves.

A task subclasses `RunConfig` and adds the fields `data` and `model`. Each field has a role,
which decides what a resume does when its value differs:

- trajectory (the default): it changes the weights; a change is refused;
- condition: it changes the last bits only; a change is allowed, warned about and recorded;
- free: it changes neither.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from .fields import check_at_least, flatten, require

CONDITION = {"role": "condition"}
FREE = {"role": "free"}
MOST_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the weights change."""

    steps: int = 1000
    """Optimizer steps in all."""
    batch_size: int = 64
    """Examples in one optimizer step, over all micro-batches."""
    accumulation_steps: int = 1
    """Micro-batches that one batch is split into; saves memory, costs time."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    """Shape after the warm-up: cosine to the end, warmup-stable-decay, or constant."""
    warmup_steps: int = 50
    """Steps over which the learning rate rises linearly from 0."""
    decay_fraction: float = 0.2
    """wsd: the last share of the steps, over which the learning rate falls linearly."""
    final_learning_rate_ratio: float = 0.0
    """Learning rate at the last step, as a share of the peak."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay, on parameters with two or more dimensions only."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.999
    """AdamW's decay of the mean squared gradient."""
    clip_norm: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of forward and backward; weights stay fp32. fp16 brings a loss scaler."""
    activation_checkpointing: bool = False
    """Recompute the activations of each block of the model's nn.ModuleLists in backward."""
    ema_decay: float = 0.0
    """Decay per step of the averaged weights; 0 keeps none."""
    select_on: Literal["raw", "ema"] = "raw"
    """Which weights decide what is best, and are saved as best."""
    early_stopping_evaluations: int = 0
    """Stop after so many evaluations without a better score; 0 never stops early."""
    on_non_finite: Literal["raise", "skip"] = "raise"
    """What a non-finite loss or gradient does: end the run, or skip that update."""
    max_skipped_steps: int = 10
    """skip: so many non-finite steps in a row end the run all the same."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation_steps", "max_skipped_steps"):
            check_at_least(self, "training", name, inclusive=1)
        check_at_least(self, "training", "learning_rate", exclusive=0)
        for name in ("warmup_steps", "weight_decay", "clip_norm", "early_stopping_evaluations"):
            check_at_least(self, "training", name, inclusive=0)
        for name in ("beta1", "beta2", "ema_decay"):
            value = getattr(self, name)
            require(0 <= value < 1, f"training.{name} must be in [0, 1), got {value}")
        for name in ("decay_fraction", "final_learning_rate_ratio"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"training.{name} must be in [0, 1], got {value}")
        require(
            self.accumulation_steps <= self.batch_size,
            f"training.accumulation_steps ({self.accumulation_steps}) must not exceed "
            f"training.batch_size ({self.batch_size})",
        )
        require(
            self.select_on == "raw" or self.ema_decay > 0,
            "training.select_on is 'ema' but training.ema_decay is 0: set a decay such as 0.999",
        )


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how strictly it runs; may change the last bits of a result, not its meaning."""

    device: Literal["auto", "cpu", "cuda", "mps"] = field(default="auto", metadata=CONDITION)
    """auto takes cuda, then mps, then cpu."""
    threads: int = field(default=1, metadata=CONDITION)
    """CPU threads inside an operator."""
    compile: bool = field(default=False, metadata=CONDITION)
    """Compile the model with torch.compile."""
    determinism: Literal["off", "run", "debug"] = field(default="run", metadata=CONDITION)
    """off: fastest kernels; run: repeatable kernels; debug: also fill uninitialised memory."""
    loader_workers: int = field(default=0, metadata=FREE)
    """Processes that prepare batches; 0 prepares them in the training process."""

    def __post_init__(self) -> None:
        check_at_least(self, "runtime", "threads", exclusive=0)
        # OpenMP ends the process where it gets no more threads from the system
        require(
            self.threads <= MOST_THREADS,
            f"runtime.threads must be at most {MOST_THREADS}, got {self.threads}",
        )
        check_at_least(self, "runtime", "loader_workers", inclusive=0)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """When the validation split is scored (a trajectory field only with early stopping)."""

    every_steps: int = field(default=100, metadata=FREE)
    """Steps between evaluations; step 0 and the last step are always evaluated."""
    batch_size: int = field(default=256, metadata=FREE)
    """Examples in one forward pass of an evaluation."""

    def __post_init__(self) -> None:
        check_at_least(self, "evaluation", "every_steps", exclusive=0)
        check_at_least(self, "evaluation", "batch_size", exclusive=0)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the whole state is saved, and how many of the saves stay."""

    every_steps: int = field(default=100, metadata=FREE)
    """Steps between checkpoints; step 0 and the last step are always saved."""
    keep: int = field(default=2, metadata=FREE)
    """Newest checkpoints that stay; at least 2, as the newest may be damaged."""

    def __post_init__(self) -> None:
        check_at_least(self, "checkpoint", "every_steps", exclusive=0)
        check_at_least(self, "checkpoint", "keep", inclusive=2)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """What is written down while it trains; metrics.jsonl always is."""

    log_every_steps: int = field(default=10, metadata=FREE)
    """Steps between training records."""
    tensorboard: bool = field(default=False, metadata=FREE)
    """Also write TensorBoard event files (needs the extra `tensorboard`)."""

    def __post_init__(self) -> None:
        check_at_least(self, "tracking", "log_every_steps", exclusive=0)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything a run is told. A task's config adds the sections `data` and `model`."""

    seed: int = 0
    """Key of everything random in the run."""
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"seed must be at least 0, got {self.seed}")


def roles(config: RunConfig) -> dict[str, str]:
    """{dotted field name: 'trajectory' | 'condition' | 'free'}."""
    found = dict(_roles(type(config), config, ""))
    if config.training.early_stopping_evaluations:
        found["evaluation.every_steps"] = "trajectory"  # it decides when patience runs out
    return found


def _roles(kind: Any, config: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for item in dataclasses.fields(kind):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from _roles(type(value), value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item.metadata.get("role", "trajectory")


def differences(old: RunConfig, new: RunConfig, role: str) -> dict[str, tuple[Any, Any]]:
    """{field: (old value, new value)} of the fields of one role whose values differ."""
    before, after, kinds = flatten(old), flatten(new), roles(new)
    return {k: (before[k], after[k]) for k in after if kinds[k] == role and before[k] != after[k]}
