"""One step of a run once more: its exact batch and carry, its record, its gradients.

The batch of a step is a pure function of the data and the step. The weights and the carry are
those of the newest checkpoint before the step, or of step 0, trained on up to the step.
"""

import math
from collections.abc import Mapping
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
from ..training.checkpoint import DamagedError, Snapshot
from ..training.device import compiled
from ..training.hashing import weights_sha256
from ..training.loop import explained
from ..training.request import TrainRequest
from ..training.run_files import Prepared
from ..training.session import prepare
from ..training.state import TrainingState, new_state
from ..training.step import train_step
from ..training.task import Task
from .comparison import fields
from .conditions import differing_conditions
from .trajectory import stretches, with_steps


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What one step did once more."""

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
        """(field, the run's value, the value now) of what both records have."""
        both = [] if self.recorded is None else fields(self.recorded, self.record)
        return [each for each in both if each[0] in self.record]

    @property
    def equal(self) -> bool:
        """Whether nothing that both records have differs."""
        return all(old == new for _, old, new in self.compared)


def replay(manifest: RunManifest, task: Task[Any], step: int) -> Replay:
    """Take step `step` of the run again and save it below the run's `replays/`.

    Raises RefusedInputError for a step that the run's schedule does not have, and
    RunFailedError where the data are not those of the run or an earlier step fails.
    """
    facts = manifest.data
    if not 1 <= step <= facts["steps"]:
        raise RefusedInputError(
            f"{manifest.run_dir} has the steps 1 to {facts['steps']}, not {step}: name one of these"
        )
    prepared = _prepared(manifest, task)
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
    while state.step + 1 < step:
        config = with_steps(prepared.config, _steps_at(facts, state.step + 1))
        _step(prepared, state, model, next(batches), config)
    config = with_steps(prepared.config, _steps_at(facts, step))
    return _watched_step(prepared, manifest, state, model, next(batches), config)


def _prepared(manifest: RunManifest, task: Task[Any]) -> Prepared:
    facts = manifest.data
    start = facts["initialised_from"]
    request = TrainRequest(
        task_name=facts["task"],
        task_type=type(task),
        preset=facts["preset"],
        config=task.config,
        run_dir=manifest.run_dir,
        init_from=Path(start) if start else None,
    )
    prepared = prepare(request, task.config, going_on=False)
    if prepared.splits.fingerprint != facts["data_fingerprint"]:
        raise RunFailedError(
            f"{manifest.run_dir} was trained on other data: data_fingerprint was "
            f"{facts['data_fingerprint']!r}, now {prepared.splits.fingerprint!r}"
        )
    return prepared


def _state_before(prepared: Prepared, manifest: RunManifest, step: int) -> TrainingState:
    """The state of the newest whole checkpoint before `step`, or that of step 0."""
    state = new_state(prepared.model, prepared.config, prepared.device)
    for folder in reversed(checkpoint.folders(manifest.run_dir / "checkpoints")):
        if checkpoint.step_of(folder) < step:
            try:
                state.restore(checkpoint.load(folder))
            except DamagedError:
                continue
            break
    return state


def _steps_at(facts: Mapping[str, Any], step: int) -> int:
    return stretches(facts, step)[-1].steps


def _step(
    prepared: Prepared, state: TrainingState, model: nn.Module, candidates: Batch, config: RunConfig
) -> dict[str, float]:
    batch = _on_device(candidates, prepared)
    with explained(state.step + 1, batch):
        return train_step(
            prepared.task,
            model,
            state,
            batch,
            config=config,
            ranks=prepared.ranks,
            poll=lambda: None,
        )


def _on_device(batch: Batch, prepared: Prepared) -> Batch:
    return {name: value.to(prepared.device) for name, value in batch.items()}


def _watched_step(
    prepared: Prepared,
    manifest: RunManifest,
    state: TrainingState,
    model: nn.Module,
    candidates: Batch,
    config: RunConfig,
) -> Replay:
    step = state.step + 1
    batch, carry = prepared.task.begin(state.carry, _on_device(candidates, prepared))
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
    told = Replay(
        folder=folder,
        record=_plain(record),
        recorded=_recorded(manifest, step),
        gradient_norms=gradient_norms(state.model),
        error=error,
        conditions=tuple(
            differing_conditions(manifest.data, config, environment(), prepared.ranks)
        ),
    )
    values |= {
        "record": told.record,
        "recorded": told.recorded,
        "gradient_norms": _plain(told.gradient_norms),
        "error": error,
        "conditions": list(told.conditions),
    }
    checkpoint.save(parent, Snapshot(step=step, groups=groups, values=values))
    return told


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """{layer: norm of the gradients of the parameters that it holds itself}, in model order."""
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0] or "(model)"
        norm = 0.0 if parameter.grad is None else float(parameter.grad.float().norm())
        squares[layer] = squares.get(layer, 0.0) + norm**2
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _recorded(manifest: RunManifest, step: int) -> Record | None:
    for record in read_records(manifest.run_dir / "metrics.jsonl"):
        if record["kind"] == "train" and record["step"] == step:
            return record
    return None


def _plain(record: Mapping[str, float]) -> dict[str, float | None]:
    """As metrics.jsonl writes it: null for what is not finite."""
    return {k: v if math.isfinite(v) else None for k, v in record.items()}


def replay_table(told: Replay) -> str:
    """What `replay` prints."""
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
