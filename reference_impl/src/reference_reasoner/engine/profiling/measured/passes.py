"""Forward passes and training steps, timed: latency, throughput, phases of a step, and memory.

Steps are taken on the task's own data, or on one example or noise without any data.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...config.run_config import RunConfig
from ...data.dataset import Batch, collate
from ...data.loader import training_batches
from ...training.device import autocast, compiled
from ...training.loop import explained
from ...training.parallel import Ranks
from ...training.state import TrainingState, new_state
from ...training.step import train_step
from ...training.task import Task
from ..model_inputs import (
    example_arguments,
    moved,
    repeated,
    tensors_in,
    untrained_model,
    with_noise,
)
from .machine import (
    BOX_S,
    Limits,
    Machine,
    PhaseTimer,
    memory_figures,
    percentiles,
    reset_memory,
    sample_ms,
)

LATENCY_LIMITS = Limits()


def latency(
    task: Task[Any], machine: Machine, limits: Limits = LATENCY_LIMITS
) -> dict[str, float | int | str | None]:
    """`latency_batch1_*` of one example after another, and the peak memory meanwhile."""
    return call_figures(one_forward_call(task, machine), machine, limits)


def one_forward_call(task: Task[Any], machine: Machine, examples: int = 1) -> Callable[[], None]:
    """A forward call of an untrained model with `examples`, compiled if the config says so."""
    return _caller(task, _ready_model(task, machine), machine, examples)


def call_figures(
    call: Callable[[], object], machine: Machine, limits: Limits
) -> dict[str, float | int | str | None]:
    """`latency_batch1_*` of `call`, which works on one example, and the peak memory meanwhile."""
    reset_memory(machine)
    samples = sample_ms(call, clock=machine.clock, device=machine.device, limits=limits)
    return {
        **percentiles(samples, "latency_batch1"),
        "latency_batch1_warm_up_iterations": limits.warm_up,
        **memory_figures(machine, "inference_batch1"),
    }


def batch_sizes(largest: int) -> list[int]:
    """1, 2, 4, ... and `largest` itself."""
    powers = [2**power for power in range(largest.bit_length()) if 2**power < largest]
    return [*powers, largest]


def throughput(task: Task[Any], machine: Machine, *, box_s: float = BOX_S) -> dict[str, Any]:
    """Examples a second at each batch size up to the run's, for as long as box and memory last.

    The box is that of all batch sizes together.
    """
    largest = task.config.training.batch_size
    model = _ready_model(task, machine)
    began = machine.clock.now()
    rows: list[dict[str, float | int]] = []
    stopped_by = f"the run's batch size of {largest} examples"
    for size in batch_sizes(largest):
        left_s = box_s - (machine.clock.now() - began)
        if left_s <= 0:
            stopped_by = f"the box of {box_s:g} s"
            break
        limits = Limits(warm_up=3, samples=50, box_s=left_s)
        try:
            call = _caller(task, model, machine, size)
            samples = sample_ms(call, clock=machine.clock, device=machine.device, limits=limits)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            stopped_by = f"out of memory at {size} examples"
            break
        total_s = sum(samples) / 1e3
        rows.append(
            {
                "batch_examples": size,
                "throughput_examples_per_s": size * len(samples) / total_s,
                "samples": len(samples),
            }
        )
    rates = [row["throughput_examples_per_s"] for row in rows]
    return {
        "throughput_by_batch": rows,
        "throughput_best_examples_per_s": max(rates, default=None),
        "throughput_stopped_by": stopped_by,
    }


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory is used up; the CPU allocator has no type of its own."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def _ready_model(task: Task[Any], machine: Machine) -> nn.Module:
    return untrained_model(task, machine.device).eval()


def _caller(task: Task[Any], model: nn.Module, machine: Machine, size: int) -> Callable[[], None]:
    """One forward pass of `size` examples that already are on the device."""
    config: RunConfig = task.config
    if config.runtime.compile:
        torch.compiler.reset()  # each batch size is compiled as the first one is
    ready = compiled(task, model)
    arguments = moved(repeated(example_arguments(task), size), machine.device)

    def call() -> None:
        with torch.inference_mode(), autocast(machine.device, config.training):
            ready(*arguments)

    return call


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


REAL_INPUT = "example_candidate() repeated to the batch; the task's begin, carry and loss"
NOISE_INPUT = "noise in the shape of example_input(); loss = sum of the outputs"


def input_in_words(task: Task[Any]) -> str:
    """What a step is taken on."""
    return NOISE_INPUT if task.example_candidate() is None else REAL_INPUT


def benched_step(task: Task[Any], machine: Machine) -> Callable[[], None]:
    """A call takes an optimizer step of the config's batch size and micro-batches."""
    candidate = task.example_candidate()
    return SyntheticStep(task, machine) if candidate is None else RealStep(task, candidate, machine)


class RealStep:
    """A step as a run takes it, on a batch of equal examples: the carry goes from call to call."""

    def __init__(self, task: Task[Any], candidate: Batch, machine: Machine) -> None:
        config: RunConfig = task.config
        model = untrained_model(task, machine.device)
        self._task = task
        self._model = compiled(task, model)
        self.state: TrainingState = new_state(model, config, machine.device)
        batch = collate([candidate] * config.training.batch_size)
        self._candidates = {name: value.to(machine.device) for name, value in batch.items()}

    def __call__(self) -> None:
        """From begin to the carry. Raises RunFailedError where the numbers are not finite."""
        train_step(
            self._task,
            self._model,
            self.state,
            self._candidates,
            config=self._task.config,
            ranks=Ranks(),
            poll=lambda: None,
        )


class SyntheticStep:
    """A step on noise, its loss the sum of the model's floating-point outputs."""

    def __init__(self, task: Task[Any], machine: Machine) -> None:
        config: RunConfig = task.config
        model = untrained_model(task, machine.device)
        self._config = config
        self._machine = machine
        self._model = compiled(task, model).train()
        self._state: TrainingState = new_state(model, config, machine.device)
        rows = -(-config.training.batch_size // config.training.accumulation_steps)
        noise = with_noise(repeated(example_arguments(task), rows), config.seed)
        self._arguments = moved(noise, machine.device)

    def __call__(self) -> None:
        """Forward, backward and update."""
        state, training = self._state, self._config.training
        state.optimizer.zero_grad(set_to_none=True)
        for _ in range(training.accumulation_steps):
            with autocast(self._machine.device, training):
                loss = _sum_of(self._model(*self._arguments))
            scaled: Any = loss if state.scaler is None else state.scaler.scale(loss)
            scaled.backward()
        if state.scaler is None:
            state.optimizer.step()
        else:
            state.scaler.step(state.optimizer)
            state.scaler.update()
        if state.ema is not None:
            state.ema.update(state.model)


def _sum_of(outputs: Any) -> Tensor:
    floats = [each for each in tensors_in(outputs) if each.requires_grad]
    return sum((each.float().sum() for each in floats[1:]), floats[0].float().sum())
