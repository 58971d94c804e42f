"""Bringing a run directory in line with the point that a call of train starts from."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.fields import to_toml
from ..config.run_config import RunConfig
from ..data.dataset import Splits
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.sinks import Record, keep_records
from . import checkpoint, parallel, resume
from .request import TrainRequest
from .resume import StartingPoint
from .state import TrainingState
from .task import Task


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run needs and what costs nothing to throw away."""

    request: TrainRequest
    config: RunConfig
    """The request's config, with the steps of --extend-to."""
    going_on: bool
    task: Task[Any]
    splits: Splits
    model: nn.Module
    device: torch.device
    ranks: parallel.Ranks
    identity: dict[str, Any]
    notes: list[str]


def write_manifest(prepared: Prepared, start: StartingPoint, state: TrainingState) -> RunManifest:
    """Note this call in run.json; a new run gets its config.toml first and run.json after it."""
    request, config, run_dir = prepared.request, prepared.config, prepared.request.run_dir
    now = environment()
    session: dict[str, Any] = {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": list(request.argv),
        "from_step": state.step,
        "warnings": list(start.warnings),
        "environment_changes": {},
    }
    if not prepared.going_on:
        (run_dir / "config.toml").write_text(to_toml(config), encoding="utf-8")
        return RunManifest.create(run_dir, **_facts(prepared, now), sessions=[session])
    manifest = RunManifest.load(run_dir)
    changes = resume.check_environment(manifest.data["environment"], now)
    for name, (before, after) in changes.items():
        line = f"{name} was {before!r}, now {after!r}: the last bits of results may differ"
        session["warnings"].append(line)
        print(line, file=sys.stderr)
    trajectories = list(manifest.data["trajectories"])
    if config.training.steps != manifest.data["steps"]:
        trajectories.append({"from_step": state.step, "steps": config.training.steps})
    manifest.update(
        status="running",
        steps=config.training.steps,
        step=state.step,
        trajectories=trajectories,
        sessions=[*manifest.data["sessions"], {**session, "environment_changes": changes}],
        error=None,
        stop_reason=None,
        stop_step=None,
    )
    (run_dir / "config.toml").write_text(to_toml(config), encoding="utf-8")
    return manifest


def _facts(prepared: Prepared, now: dict[str, Any]) -> dict[str, Any]:
    request, config = prepared.request, prepared.config
    return {
        "task": request.task_name,
        "task_facts": prepared.task.facts(),
        "preset": request.preset,
        "steps": config.training.steps,
        "data_fingerprint": prepared.splits.fingerprint,
        "seed": config.seed,
        "world_size": prepared.ranks.world_size,
        "device": prepared.device.type,
        "threads": config.runtime.threads,
        "argv": list(request.argv),
        "environment": now,
        "trajectories": [{"from_step": 0, "steps": config.training.steps}],
        "parameters": sum(p.numel() for p in prepared.model.parameters()),
        "initialised_from": str(request.init_from) if request.init_from else None,
    }


def drop_the_future(run_dir: Path, start: StartingPoint, state: TrainingState) -> None:
    """Remove what a killed call wrote after the point that this one goes on from."""
    for folder in start.refused:
        checkpoint.set_aside(folder)
    best_step = state.best.step if state.best else -1
    for folder in checkpoint.folders(run_dir / "best"):
        if checkpoint.step_of(folder) > best_step:
            checkpoint.remove(folder)
    keep_records(run_dir / "metrics.jsonl", lambda record: _is_past(record, state))


def _is_past(record: Record, state: TrainingState) -> bool:
    """Whether the run will not write this record again: what is due at its step may be left."""
    if record["step"] == state.step and record["kind"] == "evaluation":
        return state.evaluated_step == state.step
    return bool(record["step"] <= state.step)
