from typing import Any

import pytest
import torch

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.data.loader import training_batches
from reference_reasoner.engine.profiling.measured.machine import Limits, Machine
from reference_reasoner.engine.profiling.measured.passes import (
    SPLIT,
    step_figures,
    trainer,
)
from reference_reasoner.engine.seeding import seed_globals
from reference_reasoner.engine.training.parallel import Ranks
from reference_reasoner.engine.training.state import new_state
from reference_reasoner.engine.training.step import train_step
from reference_reasoner.engine.training.task import LossOutput

from ...toy.task import ToyDataset, ToyTask, toy
from ..fakes import FakeClock, FakeMemory, fake_gpu


class SlowTask(ToyTask):
    """Loading takes 1 s an example by the clock, begin 2 s, forward 5 s, backward 7 s."""

    clock: Any = None

    def datasets(self) -> Any:
        splits, clock = super().datasets(), self.clock

        class SlowData(ToyDataset):
            def example(self, index: int, generator: torch.Generator | None) -> Any:
                clock.advance(1.0)
                return super().example(index, generator)

        object.__setattr__(splits, "train", SlowData("train", 60, 0.1))
        return splits

    def begin(self, carry: Any, candidates: Any) -> Any:
        self.clock.advance(2.0)
        return super().begin(carry, candidates)

    def loss(self, *arguments: Any, **more: Any) -> LossOutput:
        self.clock.advance(5.0)
        output = super().loss(*arguments, **more)

        def takes_time(gradient: torch.Tensor) -> torch.Tensor:
            self.clock.advance(7.0)
            return gradient

        output.terms["label"].register_hook(takes_time)
        return output


def slow(**overrides: Any) -> tuple[SlowTask, Machine]:
    machine = fake_gpu(tick_s=0.0)
    task = SlowTask(overlay(toy(), overrides, "test"))
    task.clock = machine.clock
    return task, machine


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_each_part_gets_its_own_time(micro_batches: int) -> None:
    task, machine = slow(**{"training.accumulation_steps": micro_batches})
    with trainer(task, machine) as steps:
        moved = steps.state.optimizer.register_step_post_hook(
            lambda *_: task.clock.advance(3.0)  # the optimizer takes 3 s
        )
        found = step_figures(steps, Limits(warm_up=1, samples=2, box_s=1e9))
        moved.remove()
        assert steps.state.step == 3
    forward, backward = 5e3 * micro_batches, 7e3 * micro_batches
    assert found["training_forward_mean_ms"] == pytest.approx(forward)
    assert found["training_backward_mean_ms"] == pytest.approx(backward)
    assert found["training_optimizer_mean_ms"] == pytest.approx(3e3)
    assert found["training_other_mean_ms"] == pytest.approx(2e3)
    step = forward + backward + 5e3
    assert found["training_step_mean_ms"] == pytest.approx(step)
    assert found["training_step_p50_ms"] == pytest.approx(step)
    assert found["training_step_samples"] == 2
    assert found["data_loading_mean_ms"] == pytest.approx(12e3)
    assert found["data_loading_share_percent"] == pytest.approx(100 * 12e3 / (12e3 + step))
    rate = found["training_throughput_examples_per_s"]
    assert rate == pytest.approx(12 / ((12e3 + step) / 1e3))
    assert found["training_step_peak_allocated_mib"] == 100.0
    assert isinstance(machine.memory, FakeMemory)
    assert machine.memory.resets == 1
    assert set(SPLIT) == {"forward", "backward", "optimizer", "other"}


@pytest.mark.parametrize(("box_s", "warm_up", "samples"), [(1.0, 1, 1), (60.0, 2, 1), (90.0, 2, 2)])
def test_the_box_ends_the_steps(box_s: float, warm_up: int, samples: int) -> None:
    task, machine = slow()  # 12 s of loading and 14 s of the step
    with trainer(task, machine) as steps:
        found = step_figures(steps, Limits(warm_up=2, samples=100, box_s=box_s))
        assert found["training_step_samples"] == samples
        assert steps.state.step == warm_up + samples


def test_the_steps_are_those_of_a_run() -> None:
    """Two timed steps leave the weights that two steps of the training loop leave."""
    task = ToyTask(toy())
    machine = Machine(device=torch.device("cpu"), gpu=None, clock=FakeClock())
    with trainer(task, machine) as steps:
        step_figures(steps, Limits(warm_up=1, samples=1))
        timed = steps.state.hashes()
    seed_globals(task.config.seed, "init")
    state = new_state(task.build_model(), task.config, machine.device)
    batches = training_batches(
        task.datasets().train, batch_size=12, seed=0, first_step=1, last_step=2, workers=0
    )
    for batch in batches:
        train_step(
            task,
            state.model,
            state,
            batch,
            config=task.config,
            ranks=Ranks(),
            poll=lambda: None,
        )
    assert state.hashes() == timed


def test_a_clock_that_stands_still_divides_by_nothing() -> None:
    machine = fake_gpu(tick_s=0.0)
    with trainer(ToyTask(toy()), machine) as steps:
        found = step_figures(steps, Limits(warm_up=0, samples=1))
    assert found["data_loading_share_percent"] is None
    assert found["training_throughput_examples_per_s"] is None
