"""The two figures that have budgets on a named GPU: latency at batch 1 and a step's peak memory.

The training step needs no data: its batch is noise in the shape of the task's example_input(),
and its loss the sum of the model's floating-point outputs, so the figure is the same wherever
it is measured.
"""

from typing import Any

from torch import Tensor

from ..config import RunConfig
from ..training.device import autocast
from ..training.loop import compiled
from ..training.state import TrainingState, new_state
from ..training.task import Task
from .inference import latency
from .inputs import (
    example_arguments,
    moved,
    repeated,
    tensors_in,
    untrained_model,
    with_noise,
)
from .machine import Machine, memory_figures, reset_memory
from .timing import Limits, percentile, percentiles, sample_ms

LATENCY_LIMITS = Limits(warm_up=20, samples=300)
STEP_LIMITS = Limits(warm_up=3, samples=20)
REPETITIONS = 5
STEP_INPUT = "noise in the shape of example_input(); loss = sum of the outputs"


class SyntheticStep:
    """An optimizer step of the config's batch size and micro-batches, on noise."""

    def __init__(self, task: Task[Any], machine: Machine) -> None:
        config: RunConfig = task.config
        model = untrained_model(task, machine.device)
        self._config = config
        self._machine = machine
        self._model = compiled(model, config).train()
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


def repetition(
    task: Task[Any],
    machine: Machine,
    latency_limits: Limits = LATENCY_LIMITS,
    step_limits: Limits = STEP_LIMITS,
) -> dict[str, Any]:
    """One measurement of both figures, each with a fresh model."""
    figures = latency(task, machine, latency_limits)
    step = SyntheticStep(task, machine)
    reset_memory(machine)
    samples = sample_ms(step, clock=machine.clock, device=machine.device, limits=step_limits)
    return {
        **figures,
        **percentiles(samples, "training_step"),
        **memory_figures(machine, "training_step"),
    }


def budgeted(repetitions: list[dict[str, Any]]) -> dict[str, float]:
    """{`latency_p50_ms`: the median repetition's, `peak_vram_mib`: the largest}."""
    figures = {
        "latency_p50_ms": percentile([each["latency_batch1_p50_ms"] for each in repetitions], 50)
    }
    peaks = [each["training_step_peak_allocated_mib"] for each in repetitions]
    if None not in peaks:
        figures["peak_vram_mib"] = max(peaks)
    return figures
