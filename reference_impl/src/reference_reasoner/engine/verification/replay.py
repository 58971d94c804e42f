"""One step of a run once more: its exact batch and carry, its record, its gradients.

The batch of a step is a pure function of the data and the step. The weights and the carry are
those of the newest checkpoint before the step, or of step 0, trained on up to the step.
"""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..config.run_config import RunConfig
from ..data.dataset import Batch
from ..data.loader import training_batches
from ..errors import RefusedInputError, RunFailedError
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.sinks import Record, read_records
from ..training import checkpoint
from ..training.checkpoint import DamagedError, Snapshot, weights_sha256
from ..training.device import compiled
from ..training.loop import explained
from ..training.session import Prepared, prepare
from ..training.state import TrainingState, new_state
from ..training.step import train_step
from ..training.task import Task
from .reproduce import differing_conditions, fields, request_again, stretches, with_planned_steps


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a replayed step did: its record beside the run's own, and its gradient norms."""

    folder: Path
    """batch.safetensors, carry.safetensors and state.json with all that follows."""
    record: Mapping[str, Any]
    recorded: Record | None
    """The run's own record of the step, where it wrote one."""
    gradient_norms: Mapping[str, float]
    """{layer: norm of its parameters' gradients}, before clipping."""
    error: str | None
    """Why the step failed, where it did."""
    conditions: tuple[str, ...]
    """What keeps the two records from being comparable bit for bit."""

    @property
    def compared(self) -> list[tuple[str, Any, Any]]:
        """(field, the run's value, the replayed step's) of what both records have."""
        both = [] if self.recorded is None else fields(self.recorded, self.record)
        return [each for each in both if each[0] in self.record]

    @property
    def equal(self) -> bool:
        """Whether the replayed step's record equals the run's in all that both have."""
        return all(old == new for _, old, new in self.compared)


def replay(manifest: RunManifest, task: Task[Any], step: int) -> Replay:
    """Take one step of a run again, with its batch and carry, and save it below `replays/`.

    Raises RefusedInputError for a step that the run's schedule does not have, and
    RunFailedError where the data are not those of the run or an earlier step fails.
    """
    facts = manifest.data
    if not 1 <= step <= facts["steps"]:
        raise RefusedInputError(
            f"{manifest.run_dir} has the steps 1 to {facts['steps']}, not {step}: name one of these"
        )
    request = request_again(manifest, task, task.config, manifest.run_dir)
    prepared = prepare(request, task.config, going_on=False)
    if prepared.splits.fingerprint != facts["data_fingerprint"]:
        raise RunFailedError(
            f"{manifest.run_dir} was trained on other data: data_fingerprint was "
            f"{facts['data_fingerprint']!r}, now {prepared.splits.fingerprint!r}"
        )
    state = _state_before(prepared, manifest, step)
    batches = training_batches(
        prepared.splits.train,
        batch_size=prepared.config.training.batch_size,
        seed=prepared.config.seed,
        first_step=state.step + 1,
        last_step=step,
        workers=0,
    )
    model = compiled(prepared.task, state.model)
    for candidates in batches:
        batch = {name: value.to(prepared.device) for name, value in candidates.items()}
        _, planned = stretches(facts, state.step + 1)[-1]
        config = with_planned_steps(prepared.config, planned)
        if state.step + 1 == step:
            break
        _step(prepared, state, model, batch, config)
    return _watched_step(prepared, manifest, state, model, batch, config)


def _state_before(prepared: Prepared, manifest: RunManifest, step: int) -> TrainingState:
    """The state to replay from: that of the newest whole checkpoint before `step`, or of step 0."""
    state = new_state(prepared.model, prepared.config, prepared.device)
    folders = checkpoint.folders(manifest.run_dir / "checkpoints")
    for folder in reversed([each for each in folders if checkpoint.step_of(each) < step]):
        with suppress(DamagedError):
            state.restore(checkpoint.load(folder))
            break
    return state


def _step(
    prepared: Prepared, state: TrainingState, model: nn.Module, batch: Batch, config: RunConfig
) -> dict[str, float]:
    task, ranks = prepared.task, prepared.ranks
    with explained(state.step + 1, batch):
        return train_step(task, model, state, batch, config=config, ranks=ranks, poll=lambda: None)


def _watched_step(
    prepared: Prepared,
    manifest: RunManifest,
    state: TrainingState,
    model: nn.Module,
    candidates: Batch,
    config: RunConfig,
) -> Replay:
    """Replay the step with unclipped gradients, and save all that it was given and did."""
    step = state.step + 1
    batch, carry = prepared.task.begin(state.carry, candidates)
    groups = {"batch": batch} if carry is None else {"batch": batch, "carry": carry}
    values: dict[str, Any] = {f"{k}_sha256": weights_sha256(v) for k, v in groups.items()}
    parent = manifest.run_dir / "replays"
    # before the step: one that runs out of memory should leave its batch behind
    folder = checkpoint.save(parent, Snapshot(step=step, groups=groups, values=values))
    unclipped = replace(config, training=replace(config.training, clip_norm=0.0))
    record: dict[str, Any] = {}
    error = None
    try:
        record = _step(prepared, state, model, candidates, unclipped)
    except RunFailedError as failure:
        error = str(failure)
    conditions = differing_conditions(manifest.data, config, environment(), prepared.ranks)
    records = read_records(manifest.run_dir / "metrics.jsonl")
    told = Replay(
        folder=folder,
        record=_plain(record),
        recorded=next((r for r in records if (r["kind"], r["step"]) == ("train", step)), None),
        gradient_norms=gradient_norms(state.model),
        error=error,
        conditions=tuple(conditions),
    )
    values |= {name: value for name, value in vars(told).items() if name != "folder"}
    values["gradient_norms"] = _plain(told.gradient_norms)
    checkpoint.save(parent, Snapshot(step=step, groups=groups, values=values))
    return told


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """{layer: norm of the gradients of its own parameters} of the replayed step, in model order."""
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0] or "(model)"
        norm = 0.0 if parameter.grad is None else float(parameter.grad.float().norm())
        squares[layer] = squares.get(layer, 0.0) + norm**2
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _plain(record: Mapping[str, float]) -> dict[str, float | None]:
    """The replayed step's numbers as metrics.jsonl has them: null for what is not finite."""
    return {k: v if math.isfinite(v) else None for k, v in record.items()}


def replay_table(told: Replay) -> str:
    """The table that `replay` prints: the step's record, then and now, and the gradient norms."""
    lines = [f"{'record':<24}{'in the run':>16}{'now':>16}"]
    recorded = told.recorded or {}
    for name, value in told.record.items():
        was = _number(recorded[name]) if name in recorded else "-"
        mark = "" if name not in recorded or recorded[name] == value else "  differs"
        lines.append(f"{name:<24}{was:>16}{_number(value):>16}{mark}")
    if told.recorded is None:
        lines.append("the run wrote no record of this step: see tracking.log_every_steps")
    lines += ["", f"{'layer':<40}gradient norm"]
    lines += [f"{name:<40}{_number(norm)}" for name, norm in told.gradient_norms.items()]
    lines += [f"\nthe step failed: {told.error}"] if told.error else []
    return "\n".join([*lines, "", f"batch, carry and all of this: {told.folder}"])


def _number(value: float | None) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.8g}"
