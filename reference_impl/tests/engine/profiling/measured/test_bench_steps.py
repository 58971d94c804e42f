"""Steps that need no data set: on noise, and on one example as training takes them."""

from typing import Any

import pytest
import torch

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.profiling.measured.passes import (
    RealStep,
    SyntheticStep,
    benched_step,
    input_in_words,
)
from reference_reasoner.engine.training.task import Carry, LossOutput

from ...toy.task import ToyTask, toy
from ..fakes import fake_cpu


class ExampleToy(ToyTask):
    """Has an example without its data set, and notes what it is trained on."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.begun: list[tuple[Carry | None, Batch]] = []
        self.rows: list[int] = []

    def example_candidate(self) -> Batch:
        return self.datasets().train.example(0, None)

    def begin(self, carry: Carry | None, candidates: Batch) -> tuple[Batch, Carry | None]:
        self.begun.append((carry, candidates))
        return super().begin(carry, candidates)

    def loss(self, model: Any, batch: Batch, carry: Carry | None, keys: Any) -> LossOutput:
        self.rows.append(len(batch["label"]))
        return super().loss(model, batch, carry, keys)


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"training.precision": "bf16"},
        {"training.precision": "fp16"},
        {"training.accumulation_steps": 5},
        {"training.ema_decay": 0.9},
    ],
)
def test_a_synthetic_step_moves_every_weight(overrides: dict[str, Any]) -> None:
    task = ToyTask(overlay(toy(), overrides, "test"))
    step = SyntheticStep(task, fake_cpu())
    state = step._state
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    for _ in range(8):  # fp16's first steps are skipped, until the loss scale is small enough
        step()
    after = state.model.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    if state.ema is not None:
        assert not torch.equal(state.ema.tensors["head.weight"], before["head.weight"])


def test_a_micro_batch_is_what_stands_in_memory_at_once() -> None:
    task = ToyTask(overlay(toy(), {"training.accumulation_steps": 5}, "test"))
    step = SyntheticStep(task, fake_cpu())
    assert len(step._arguments[0]) == 3  # 12 examples in 5 parts


def test_a_real_step_is_the_trainers_on_one_example_again_and_again() -> None:
    overrides = {"training.accumulation_steps": 5, "training.ema_decay": 0.9}
    task = ExampleToy(overlay(toy(), overrides, "test"))
    step = RealStep(task, task.example_candidate(), fake_cpu())
    before = {name: value.clone() for name, value in step.state.model.state_dict().items()}
    step()
    assert step.state.carry is not None
    assert len(step.state.carry["latent"]) == 12
    assert step.state.optimizer.state
    first = step.state.carry
    step()
    assert step.state.step == 2
    (none, candidates), (carried, again) = task.begun
    assert none is None
    assert carried is first
    assert again is candidates
    row = task.example_candidate()
    assert all(
        torch.equal(value, row[name].expand(12, *row[name].shape))
        for name, value in candidates.items()
    )
    assert task.rows == [2, 2, 3, 2, 3] * 2
    assert step.state.ema is not None
    assert not torch.equal(step.state.ema.tensors["head.weight"], before["head.weight"])


def test_a_task_with_an_example_is_benched_on_it() -> None:
    with_example, without = ExampleToy(toy()), ToyTask(toy())
    assert isinstance(benched_step(with_example, fake_cpu()), RealStep)
    assert isinstance(benched_step(without, fake_cpu()), SyntheticStep)
    assert input_in_words(with_example).startswith("example_candidate() repeated to the batch")
    assert input_in_words(without).startswith("noise in the shape of example_input()")
