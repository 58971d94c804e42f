"""One call of `train`: check everything, then begin or go on, and leave with an exit code.

Until all checks have passed nothing is written. Afterwards run.json always says how the
call ended: finished, stopped (by a signal) or failed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from ..config.run_config import RunConfig
from ..data.dataset import Splits
from ..errors import RefusedInputError, RunFailedError
from ..seeding import seed_globals, set_determinism, set_threads
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import RunLock
from ..tracking.sinks import check_trackers, open_sinks
from . import checkpoint, parallel, resume
from .device import checkpoint_activations, choose_device
from .guards import SignalGuard, StopRequested
from .initial_weights import take_weights
from .loop import Evaluator, Job, fit
from .progress import Progress
from .request import TrainRequest, config_to_go_on_with, holds_run
from .resume import StartingPoint
from .run_files import Prepared, drop_the_future, write_manifest
from .state import new_state
from .task import Task

MakeEvaluator = Callable[[Task[Any], Splits, RunConfig, torch.device], Evaluator]


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
    """Train, and let run.json say how it ended."""
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
