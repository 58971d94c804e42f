"""Everything that one step hands to the next, and its way into a snapshot and back."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run_config import RunConfig
from .checkpoint import Snapshot, state_sha256, weights_sha256
from .device import build_scaler
from .guards import EarlyStopping, NonFiniteGuard
from .optim import Ema, build_optimizer, load_optimizer_tensors, optimizer_tensors
from .task import Carry


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation so far."""

    step: int
    value: float
    scores: dict[str, float] = field(default_factory=dict)
    """All scores of the weights that were kept."""


@dataclass(kw_only=True)
class TrainingState:
    """The state after `step` optimizer steps; step 0 is before the first."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None = None
    scaler: torch.amp.GradScaler | None = None
    carry: Carry | None = None
    step: int = 0
    best: Best | None = None
    guard: NonFiniteGuard = field(default_factory=NonFiniteGuard)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)
    evaluated_step: int | None = None
    """The last step whose evaluation is complete; a stop may come in the middle of one."""

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by the file that they are saved in."""
        groups = {
            "model": dict(self.model.state_dict()),
            "optimizer": optimizer_tensors(self.optimizer, self.model),
        }
        if self.ema is not None:
            groups["ema"] = self.ema.tensors
        if self.carry is not None:
            groups["carry"] = self.carry
        return groups

    def hashes(self) -> dict[str, str]:
        """`weights_sha256` and `state_sha256` of the state as it is."""
        values = {
            "step": self.step,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "guard": dataclasses.asdict(self.guard),
        }
        return {
            "weights_sha256": weights_sha256(self.model.state_dict()),
            "state_sha256": state_sha256(self.groups(), values),
        }

    def snapshot(self, identity: Mapping[str, Any]) -> Snapshot:
        """The whole state, and beside it the `identity` of the run that it belongs to."""
        values = {
            **identity,
            "best": dataclasses.asdict(self.best) if self.best else None,
            "early_stopping": dataclasses.asdict(self.early_stopping),
            "evaluated_step": self.evaluated_step,
            "guard": dataclasses.asdict(self.guard),
            "scaler": self.scaler.state_dict() if self.scaler else None,
        }
        return Snapshot(step=self.step, groups=self.groups(), values=values)

    def restore(self, snapshot: Snapshot) -> None:
        """Restore the training state from a `snapshot`."""
        for put_back in RESTORERS.values():
            put_back(self, snapshot)


def new_state(model: nn.Module, config: RunConfig, device: torch.device) -> TrainingState:
    """The state before the first step of a model that already is on `device`."""
    decay = config.training.ema_decay
    return TrainingState(
        model=model,
        optimizer=build_optimizer(model, config.training),
        ema=Ema(model, decay) if decay else None,
        scaler=build_scaler(device, config.training),
    )


def _restore_model(state: TrainingState, snapshot: Snapshot) -> None:
    state.model.load_state_dict(snapshot.groups["model"])


def _restore_optimizer(state: TrainingState, snapshot: Snapshot) -> None:
    load_optimizer_tensors(state.optimizer, state.model, snapshot.groups["optimizer"])


def _restore_ema(state: TrainingState, snapshot: Snapshot) -> None:
    if state.ema is not None:
        state.ema.load(snapshot.groups["ema"])


def _restore_scaler(state: TrainingState, snapshot: Snapshot) -> None:
    if state.scaler is not None:
        state.scaler.load_state_dict(snapshot.values["scaler"])


def _restore_carry(state: TrainingState, snapshot: Snapshot) -> None:
    device = next(state.model.parameters()).device
    if "carry" in snapshot.groups:
        state.carry = {k: v.to(device) for k, v in snapshot.groups["carry"].items()}


def _restore_step(state: TrainingState, snapshot: Snapshot) -> None:
    state.step = snapshot.step
    state.evaluated_step = snapshot.values["evaluated_step"]


def _restore_best(state: TrainingState, snapshot: Snapshot) -> None:
    best = snapshot.values["best"]
    state.best = Best(**best) if best else None


def _restore_guard(state: TrainingState, snapshot: Snapshot) -> None:
    state.guard = NonFiniteGuard(**snapshot.values["guard"])


def _restore_early_stopping(state: TrainingState, snapshot: Snapshot) -> None:
    state.early_stopping = EarlyStopping(**snapshot.values["early_stopping"])


RESTORERS: dict[str, Callable[[TrainingState, Snapshot], None]] = {
    "model": _restore_model,
    "optimizer": _restore_optimizer,
    "ema": _restore_ema,
    "scaler": _restore_scaler,
    "carry": _restore_carry,
    "step": _restore_step,
    "best": _restore_best,
    "guard": _restore_guard,
    "early_stopping": _restore_early_stopping,
}
"""One function a saved entry, so that a test can leave one out and see that it is missed."""
