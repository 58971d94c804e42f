"""A session: one call of train, from its checks to its exit code.

Until all checks have passed nothing is written. Afterwards run.json always says how the
call ended: finished, stopped (by a signal) or failed.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.fields import to_toml
from ..config.run_config import RunConfig
from ..data.dataset import Splits
from ..errors import RefusedInputError, RunFailedError
from ..seeding import seed_globals, set_determinism, set_threads
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import RunLock
from ..tracking.sinks import Record, check_trackers, keep_records, open_sinks
from . import checkpoint, parallel, resume
from .device import checkpoint_activations, choose_device
from .guards import SignalGuard, StopRequested
from .loop import Evaluator, Job, fit
from .progress import Progress
from .resume import StartingPoint, TrainRequest, config_to_go_on_with, holds_run, take_weights
from .state import TrainingState, new_state
from .task import Task

MakeEvaluator = Callable[[Task[Any], Splits, RunConfig, torch.device], Evaluator]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that a training session needs and that costs nothing to throw away."""

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


def train(request: TrainRequest, make_evaluator: MakeEvaluator) -> int:
    """Train as asked and return the exit code: 0 finished, 143 or 130 stopped by a signal.

    Raises RefusedInputError before anything is written, and RunFailedError once the run's
    status is `failed`.
    """
    going_on = holds_run(request)
    config = request.config
    if going_on:
        manifest = RunManifest.load(request.run_dir)
        config = config_to_go_on_with(request, manifest)
        if manifest.data["status"] == "finished" and not _has_more_to_do(config, manifest):
            Progress(config.training.steps).say(f"{request.run_dir} is finished: nothing to do")
            return 0
    prepared = prepare(request, config, going_on)
    with SignalGuard() as signals, RunLock(request.run_dir), _full_disk_explained(request.run_dir):
        if holds_run(request) != going_on:
            raise RefusedInputError(f"{request.run_dir} was changed by another process: try again")
        return _train(prepared, make_evaluator, signals)


def _has_more_to_do(config: RunConfig, manifest: RunManifest) -> bool:
    return bool(config.training.steps != manifest.data["steps"])


def prepare(request: TrainRequest, config: RunConfig, going_on: bool) -> Prepared:
    """Check and build everything that needs no run directory. Raises RefusedInputError."""
    ranks = parallel.current()
    check_trackers(config.tracking)
    set_threads(config.runtime.threads)
    set_determinism(config.runtime.determinism)
    device = choose_device(config.runtime)
    task = request.task_type(config)
    splits = task.datasets()
    seed_globals(config.seed, "init")
    model = task.build_model()
    notes = []
    if request.init_from is not None and not going_on:
        notes = take_weights(request.init_from, model)
    if config.training.activation_checkpointing:
        checkpoint_activations(model)
    return Prepared(
        request=request,
        config=config,
        going_on=going_on,
        task=task,
        splits=splits,
        model=model.to(device),
        device=device,
        ranks=ranks,
        identity=resume.identity(config, splits.fingerprint, ranks.world_size),
        notes=notes,
    )


def _train(prepared: Prepared, make_evaluator: MakeEvaluator, signals: SignalGuard) -> int:
    """Restore or begin the state, say so in run.json, and train."""
    config, run_dir = prepared.config, prepared.request.run_dir
    start = StartingPoint()
    if prepared.going_on:
        extend_to = prepared.request.extend_to
        start = resume.starting_point(run_dir, config, prepared.identity, extend_to)
    state = new_state(prepared.model, config, prepared.device)
    if start.snapshot is not None:
        state.restore(start.snapshot)
    progress = Progress(config.training.steps)
    for line in [*prepared.notes, *start.refused.values(), *start.warnings]:
        progress.say(line)
    if prepared.going_on:
        progress.say(f"{run_dir}: going on from step {state.step}")
    manifest = write_manifest(prepared, start, state)
    with _noted_failure(manifest):
        drop_the_future(run_dir, start, state)
        job = Job(
            task=prepared.task,
            config=config,
            splits=prepared.splits,
            state=state,
            evaluator=make_evaluator(prepared.task, prepared.splits, config, prepared.device),
            run_dir=run_dir,
            manifest=manifest,
            sinks=open_sinks(run_dir, config.tracking),
            signals=signals,
            device=prepared.device,
            ranks=prepared.ranks,
            identity=prepared.identity,
            progress=progress,
            saved_step=None if start.snapshot is None else state.step,
            stop_at=prepared.request.stop_at,
        )
        return _run(job)


def _run(job: Job) -> int:
    """Run the training session, and let run.json say how it ended."""
    try:
        reason, status, code = fit(job), "finished", 0
    except StopRequested as stop:
        reason, status, code = str(stop), "stopped", job.signals.exit_code
    finally:
        for sink in job.sinks:
            sink.close()
    step = job.state.step
    job.manifest.update(
        status=status, stop_reason=reason, stop_step=step, step=step, **job.state.hashes()
    )
    if status == "finished":
        job.progress.say(f"finished at step {step}: {job.run_dir}")
    else:
        job.progress.say(f"{reason}: saved at step {step}; go on with --resume")
    return code


@contextmanager
def _noted_failure(manifest: RunManifest) -> Iterator[None]:
    """Set the run's status to `failed` when an error leaves the context."""
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, RunFailedError) else repr(error)
        with suppress(OSError):  # the disk may be full: the error itself matters more
            manifest.update(status="failed", error=text)
        raise


@contextmanager
def _full_disk_explained(run_dir: Path) -> Iterator[None]:
    """Turn a full disk into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in checkpoint.DISK_FULL:
            raise
        raise RunFailedError(
            f"the disk is full: {error.filename or run_dir} could not be written; free some "
            "space and go on with --resume"
        ) from error


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
