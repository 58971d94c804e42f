"""The training loop: the whole story of a run between its first and its last step.

At each step it stands on, the loop first does what is due there (evaluate, then save), and
only then takes the next step. A run that was stopped in the middle of what was due does the
rest of it when it resumes, so its records and its best are those of a run that never stopped.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config.run_config import RunConfig
from ..data.dataset import Batch, Splits
from ..data.loader import training_batches
from ..errors import RunFailedError
from ..tracking.manifest import RunManifest
from ..tracking.sinks import Record, Sink
from . import checkpoint, failpoints
from .checkpoint import Snapshot
from .device import blocks_eager, compiled
from .guards import SignalGuard, StopRequested
from .parallel import Ranks
from .progress import Progress
from .state import Best, TrainingState
from .step import train_step
from .task import Task

Evaluator = Callable[[nn.Module, Callable[[], None]], dict[str, float]]
"""(model, poll) -> the validation scores of the model as it is; `poll` may raise to leave."""


@dataclass(kw_only=True)
class Job:
    """All that the training loop `fit` works with; `state` is what it changes."""

    task: Task[Any]
    config: RunConfig
    splits: Splits
    state: TrainingState
    evaluator: Evaluator
    run_dir: Path
    manifest: RunManifest
    sinks: list[Sink]
    signals: SignalGuard
    device: torch.device
    ranks: Ranks
    identity: dict[str, Any]
    """Config, fingerprint and world size, saved with each checkpoint."""
    progress: Progress
    saved_step: int | None = None
    stop_at: int | None = None
    """Leave after this step, however many the config asks for."""
    started: float = field(default_factory=time.perf_counter)


def fit(job: Job) -> str:
    """Run the training loop to its end; return which: `steps` | `early_stopping`.

    Raises StopRequested on a signal and at `stop_at`, with the state saved, and RunFailedError
    where the run cannot go on.
    """
    training, state = job.config.training, job.state
    try:
        model = compiled(job.task, state.model)
        reason = _do_what_is_due(job)
        last = training.steps if job.stop_at is None else min(job.stop_at, training.steps)
        batches = training_batches(
            job.splits.train,
            batch_size=training.batch_size,
            seed=job.config.seed,
            first_step=state.step + 1,
            last_step=last if reason is None else state.step,
            workers=job.config.runtime.loader_workers,
        )
        with contextlib.closing(batches):
            for candidates in batches:
                _take_step(job, model, candidates)
                reason = _do_what_is_due(job)
                if reason is not None:
                    break
        if reason is None:
            save(job)
            raise StopRequested(f"asked to stop at step {last}")
    finally:
        if job.signals.received is not None:
            save(job)
    return reason


def _take_step(job: Job, model: nn.Module, candidates: Batch) -> None:
    config, state = job.config, job.state
    began = time.perf_counter()
    batch = {name: value.to(job.device) for name, value in candidates.items()}
    with explained(state.step + 1, batch):
        record = train_step(
            job.task, model, state, batch, config=config, ranks=job.ranks, poll=job.signals.poll
        )
    if state.step % config.tracking.log_every_steps == 0 or state.step == config.training.steps:
        examples = config.training.batch_size
        epoch = state.step * examples / len(job.splits.train)
        rate = examples / (time.perf_counter() - began)
        _record(job, {"kind": "train", "epoch": epoch, **record, "wall_examples_per_s": rate})
    job.progress.step(state.step, record)


def _do_what_is_due(job: Job) -> str | None:
    """Evaluate and save where the step asks for it; why the run is over, if it is."""
    config, state = job.config, job.state
    step, last = state.step, config.training.steps
    evaluation_due = step == last or step % config.evaluation.every_steps == 0
    if evaluation_due and state.evaluated_step != step:
        _evaluate(job)
    reason = None
    if state.early_stopping.says_stop(config.training):
        reason = "early_stopping"
    elif step >= last:
        reason = "steps"
    if reason or step % config.checkpoint.every_steps == 0:
        save(job)
    if reason is None:
        job.signals.poll()
    return reason


def _evaluate(job: Job) -> None:
    """Score the raw and the averaged weights, and keep them if they are the best so far."""
    state, training = job.state, job.config.training

    def poll() -> None:
        failpoints.hit("evaluation")
        job.signals.poll()

    with blocks_eager(job.config.runtime):
        scores = {"raw": job.evaluator(state.model, poll)}
        if state.ema is not None:
            with state.ema.applied(state.model):
                scores["ema"] = job.evaluator(state.model, poll)
    selected = scores[training.select_on][job.task.primary_metric]
    sign = 1 if job.task.direction == "max" else -1
    improved = state.best is None or sign * selected > sign * state.best.value
    state.early_stopping.note(improved)
    if improved:
        state.best = Best(step=state.step, value=selected, scores=scores[training.select_on])
        _save_best(job, scores[training.select_on])
    state.evaluated_step = state.step
    flat = {f"{kind}/{name}": v for kind, each in scores.items() for name, v in each.items()}
    _record(job, {"kind": "evaluation", **flat, "selected": selected})
    job.manifest.update(step=state.step, best=best_facts(job), final_metrics=flat)
    job.progress.evaluation(state.step, job.task.primary_metric, selected, improved)


def best_facts(job: Job) -> dict[str, Any] | None:
    """run.json's `best`."""
    best = job.state.best
    if best is None:
        return None
    return {
        "step": best.step,
        "metric": job.task.primary_metric,
        "value": best.value,
        "weights": job.config.training.select_on,
        "scores": best.scores,
    }


def _save_best(job: Job, scores: dict[str, float]) -> None:
    state = job.state
    ema = state.ema if job.config.training.select_on == "ema" else None
    weights = ema.tensors if ema is not None else state.model.state_dict()
    parent = job.run_dir / "best"
    snapshot = Snapshot(step=state.step, groups={"model": weights}, values={"scores": scores})
    checkpoint.save(parent, snapshot)


def save(job: Job) -> None:
    """Save the state, unless this step is saved already, and drop what is no longer needed."""
    if job.saved_step == job.state.step:
        return
    for sink in job.sinks:
        sink.sync()  # a checkpoint's records must not be younger on the disk than itself
    parent = job.run_dir / "checkpoints"
    checkpoint.save(parent, job.state.snapshot(job.identity))
    job.saved_step = job.state.step
    checkpoint.keep_newest(parent, job.config.checkpoint.keep)
    _drop_old_best(job)
    job.manifest.update(step=job.state.step)


def _drop_old_best(job: Job) -> None:
    """Drop each best that no checkpoint stands on: a resume may go back to the oldest of them."""
    oldest = checkpoint.step_of(checkpoint.folders(job.run_dir / "checkpoints")[0])
    bests = checkpoint.folders(job.run_dir / "best")
    for folder, following in itertools.pairwise(bests):
        if checkpoint.step_of(following) <= oldest:
            checkpoint.remove(folder)


def _record(job: Job, record: Record) -> None:
    wall_s = time.perf_counter() - job.started
    for sink in job.sinks:
        sink.write({"step": job.state.step, **record, "wall_s": wall_s})


@contextlib.contextmanager
def explained(step: int, batch: Batch) -> Iterator[None]:
    """Turn running out of memory and a failed compilation into one sentence."""
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _out_of_memory(step, shapes) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the CPU allocator has no type of its own
            raise _out_of_memory(step, shapes) from error
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise RunFailedError(
                f"torch.compile failed at step {step}: {_first_words(error)}; "
                "run with --runtime.compile False"
            ) from error
        raise


def _first_words(error: Exception) -> str:
    """The first line, and the one after it where the first only says that something was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])


def _out_of_memory(step: int, shapes: str) -> RunFailedError:
    return RunFailedError(
        f"out of memory at step {step} with the batch {shapes}: raise "
        "training.accumulation_steps, turn on training.activation_checkpointing, or lower "
        "training.batch_size"
    )
