"""Real training steps on the task's own data: where their time goes, and what memory they take."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..config.run_config import RunConfig
from ..data.dataset import Batch
from ..data.loader import training_batches
from ..training.device import compiled
from ..training.loop import explained
from ..training.parallel import Ranks
from ..training.state import TrainingState, new_state
from ..training.step import train_step
from ..training.task import Task
from .inputs import untrained_model
from .machine import Machine, memory_figures, reset_memory
from .timing import Limits, PhaseTimer, percentiles

STEP_LIMITS = Limits(warm_up=3, samples=100)
SPLIT = ("forward", "backward", "optimizer", "other")
"""The parts of a step; `optimizer` takes clipping, the guard and the average of the weights in,
`other` what comes before the first forward pass."""


@dataclass(kw_only=True)
class Trainer:
    """Takes the steps of a run that is not written down."""

    task: Task[Any]
    model: nn.Module
    """What computes the loss: the state's model, or its compiled form."""
    state: TrainingState
    batches: Generator[Batch, None, None]
    timer: PhaseTimer
    machine: Machine

    def load(self) -> Batch:
        """The next step's batch, on the device."""
        batch = next(self.batches)
        return {name: value.to(self.machine.device) for name, value in batch.items()}

    def step(self, batch: Batch) -> None:
        """One optimizer step, whose phases the timer learns. Raises RunFailedError."""
        with explained(self.state.step + 1, batch):
            train_step(
                self.task,
                self.model,
                self.state,
                batch,
                config=self.task.config,
                ranks=Ranks(),
                poll=lambda: None,
                phase=self.timer.mark,
            )


@contextmanager
def trainer(task: Task[Any], machine: Machine) -> Generator[Trainer, None, None]:
    """A trainer at step 0; its loader's workers end with the context.

    Raises RefusedInputError where the task's data cannot be loaded.
    """
    config: RunConfig = task.config
    splits = task.datasets()
    model = untrained_model(task, machine.device)
    batches = training_batches(
        splits.train,
        batch_size=config.training.batch_size,
        seed=config.seed,
        first_step=1,
        last_step=2**31,  # as many as the timing asks for
        workers=config.runtime.loader_workers,
    )
    try:
        yield Trainer(
            task=task,
            model=compiled(task, model),
            state=new_state(model, config, machine.device),
            batches=batches,
            timer=PhaseTimer(machine.clock, machine.device),
            machine=machine,
        )
    finally:
        batches.close()


def step_figures(trainer: Trainer, limits: Limits = STEP_LIMITS) -> dict[str, Any]:
    """`training_*`: a step's percentiles, its parts' means, loading beside it, peak memory."""
    machine = trainer.machine
    began = machine.clock.now()
    for _ in range(limits.warm_up):
        trainer.step(trainer.load())
        trainer.timer.mark(None)
        if machine.clock.now() - began >= limits.box_s:
            break
    trainer.timer.take()
    reset_memory(machine)
    steps: list[dict[str, float]] = []
    while len(steps) < limits.samples:
        steps.append(_timed_step(trainer))
        if machine.clock.now() - began >= limits.box_s:
            break
    return {**_summary(steps, trainer), **memory_figures(machine, "training_step")}


def _timed_step(trainer: Trainer) -> dict[str, float]:
    trainer.timer.mark("loading")
    batch = trainer.load()
    trainer.timer.mark("other")
    trainer.step(batch)
    trainer.timer.mark(None)
    return trainer.timer.take()


def _summary(steps: list[dict[str, float]], trainer: Trainer) -> dict[str, Any]:
    mean_ms = {
        phase: sum(step.get(phase, 0.0) for step in steps) / len(steps) * 1e3
        for phase in (*SPLIT, "loading")
    }
    whole_ms = [sum(step.get(phase, 0.0) for phase in SPLIT) * 1e3 for step in steps]
    loading_ms = mean_ms.pop("loading")
    step_ms = sum(mean_ms.values())
    training = trainer.task.config.training
    total_ms = step_ms + loading_ms
    return {
        **percentiles(whole_ms, "training_step"),
        **{f"training_{phase}_mean_ms": value for phase, value in mean_ms.items()},
        "training_step_mean_ms": step_ms,
        "data_loading_mean_ms": loading_ms,
        "data_loading_share_percent": 100 * loading_ms / total_ms if total_ms else None,
        "training_throughput_examples_per_s": (
            training.batch_size / total_ms * 1e3 if total_ms else None
        ),
        "training_batch_examples": training.batch_size,
        "training_accumulation_steps": training.accumulation_steps,
    }
