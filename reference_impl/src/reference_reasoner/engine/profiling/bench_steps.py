"""Optimizer steps that need no data set: real ones on one example, or made-up ones on noise."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..config.run_config import RunConfig
from ..data.dataset import Batch, collate
from ..training.device import autocast, compiled
from ..training.parallel import Ranks
from ..training.state import TrainingState, new_state
from ..training.step import train_step
from ..training.task import Task
from .inputs import example_arguments, moved, repeated, tensors_in, untrained_model, with_noise
from .machine import Machine

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
