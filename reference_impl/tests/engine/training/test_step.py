"""One optimizer step, compared with a plain twin."""

from typing import Any

import pytest
import torch

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.config.run_config import TrainingConfig
from reference_reasoner.engine.data.dataset import Batch, collate
from reference_reasoner.engine.errors import RunFailedError
from reference_reasoner.engine.seeding import seed_globals
from reference_reasoner.engine.training.parallel import Ranks
from reference_reasoner.engine.training.state import TrainingState, new_state
from reference_reasoner.engine.training.step import micro_batches, normalised, train_step
from reference_reasoner.engine.training.task import Carry, LossOutput, StepKeys

from ..toy.task import ToyConfig, ToyTask, toy

CPU = torch.device("cpu")


def config_with(**changes: Any) -> ToyConfig:
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return overlay(toy(), {"model.dropout": 0.0, **named}, "test")


def fresh(config: ToyConfig, task_type: type[ToyTask] = ToyTask) -> tuple[ToyTask, TrainingState]:
    task = task_type(config)
    seed_globals(0, "init")
    return task, new_state(task.build_model(), config, CPU)


def candidates(task: ToyTask, indices: range = range(8)) -> Batch:
    train = task.datasets().train
    return collate([train.example(index, None) for index in indices])


def take(task: ToyTask, state: TrainingState, config: ToyConfig, batch: Batch) -> dict[str, float]:
    return train_step(
        task, state.model, state, batch, config=config, ranks=Ranks(), poll=lambda: None
    )


def gradients(state: TrainingState) -> dict[str, torch.Tensor]:
    return {k: p.grad.clone() for k, p in state.model.named_parameters() if p.grad is not None}


def test_accumulation_gives_the_gradients_of_the_whole_batch() -> None:
    """1 x 8 and 8 x 1, with unequal valid counts: of `value`, rows 0, 3 and 6 have no target."""
    found = []
    for parts in (1, 8, 3):
        config = config_with(training__accumulation_steps=parts, training__clip_norm=0.0)
        task, state = fresh(config)
        record = take(task, state, config, candidates(task))
        found.append((gradients(state), record["loss"]))
    for other, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-5)
        for name, value in found[0][0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-7)


def test_a_step_equals_its_plain_twin() -> None:
    config = config_with(training__clip_norm=0.5, training__learning_rate=0.1)
    task, state = fresh(config)
    batch = candidates(task)
    _, twin = fresh(config)
    latent = torch.zeros(8, config.model.width)
    _, logits, value = twin.model(batch["point"], latent)
    known = batch["value_known"]
    loss = torch.nn.functional.cross_entropy(logits, batch["label"])
    loss = loss + ((value - batch["value"])[known] ** 2).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(twin.model.parameters(), 0.5)
    for group in twin.optimizer.param_groups:
        group["lr"] = 0.1 * 1 / 2  # the first of two warm-up steps
    twin.optimizer.step()
    record = take(task, state, config, batch)
    assert record["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert record["gradient_norm"] == pytest.approx(norm.item(), rel=1e-6)
    assert record["learning_rate"] == 0.05
    for (name, ours), theirs in zip(
        state.model.named_parameters(), twin.model.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7, msg=name)


def test_two_steps_do_not_add_up_their_gradients() -> None:
    config = config_with(training__clip_norm=0.0, training__learning_rate=1e-12, use_carry=False)
    task, state = fresh(config)
    take(task, state, config, candidates(task))
    first = gradients(state)
    take(task, state, config, candidates(task))
    for name, value in gradients(state).items():
        torch.testing.assert_close(value, first[name], rtol=1e-4, atol=1e-6)


def test_a_term_without_targets_contributes_nothing() -> None:
    config = config_with()
    task, state = fresh(config)
    batch = candidates(task)
    batch["value_known"] = torch.zeros(8, dtype=torch.bool)
    record = take(task, state, config, batch)
    assert "loss/value" not in record
    assert record["loss"] == record["loss/label"]
    assert all(torch.isfinite(p).all() for p in state.model.parameters())


def test_a_step_without_any_target_moves_nothing() -> None:
    class Targetless(ToyTask):
        def counts(self, batch: Batch, carry: Carry | None) -> dict[str, int]:
            return {"label": 0, "value": 0}

    config = config_with()
    task, state = fresh(config, Targetless)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    record = take(task, state, config, candidates(task))
    assert (record["loss"], record["gradient_norm"]) == (0.0, 0.0)
    assert state.step == 1
    torch.testing.assert_close(dict(state.model.state_dict()), before, rtol=0, atol=0)


def test_a_term_that_is_no_sum_is_averaged_over_micro_batches() -> None:
    terms = {"hazard": torch.tensor(6.0), "label": torch.tensor(6.0)}
    divided = normalised(terms, {"label": 2}, frozenset({"hazard"}), parts=3)
    assert {k: float(v) for k, v in divided.items()} == {"hazard": 2.0, "label": 3.0}


def test_a_term_without_a_count_is_named() -> None:
    with pytest.raises(ValueError, match="'label' has no count"):
        normalised({"label": torch.tensor(1.0)}, {"value": 1}, frozenset(), parts=1)


def test_micro_batches_share_the_rows_in_order() -> None:
    batch = {"x": torch.arange(7)}
    pieces = [piece["x"].tolist() for piece, _ in micro_batches(batch, None, 3)]
    assert pieces == [[0, 1], [2, 3], [4, 5, 6]]
    assert len(list(micro_batches({"x": torch.arange(2)}, None, 3))) == 2


def test_rows_leave_the_batch_and_their_places_are_filled() -> None:
    config = config_with()
    task, state = fresh(config)
    take(task, state, config, candidates(task))
    assert state.carry is not None
    leaving = state.carry["done"].clone()
    leaving[0], leaving[1] = True, False
    state.carry["done"] = leaving
    take(task, state, config, candidates(task, range(8, 16)))
    ids = state.carry["row_example_id"].tolist()
    assert ids[:2] == [8, 1]
    assert int(state.carry["refinements"][1]) == 2


class NanTask(ToyTask):
    """Not finite in the step `bad`."""

    bad = (1,)

    def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
        out = super().loss(model, batch, carry, keys)
        if keys.step not in self.bad:
            return out
        return LossOutput(
            terms={k: v * torch.nan for k, v in out.terms.items()},
            metrics=out.metrics,
            carry=out.carry,
        )


def test_a_step_that_is_not_finite_names_step_and_examples() -> None:
    config = config_with()
    task, state = fresh(config, NanTask)
    with pytest.raises(RunFailedError, match=r"step 1 is not finite: loss nan.*examples 0, 1"):
        take(task, state, config, candidates(task))
    assert state.step == 0


def test_skipping_leaves_weights_and_carry_and_counts() -> None:
    config = config_with(training__on_non_finite="skip", training__ema_decay=0.5)
    task, state = fresh(config, NanTask)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    take(task, state, config, candidates(task))
    torch.testing.assert_close(dict(state.model.state_dict()), before, rtol=0, atol=0)
    assert (state.step, state.guard.skipped_steps, state.carry) == (1, 1, None)
    take(task, state, config, candidates(task))
    assert state.guard.skipped_in_a_row == 0


def test_too_many_skipped_steps_end_the_run() -> None:
    config = config_with(training__on_non_finite="skip", training__max_skipped_steps=2)
    task, state = fresh(config, type("Worse", (NanTask,), {"bad": (1, 2)}))
    take(task, state, config, candidates(task))
    with pytest.raises(RunFailedError, match=r"step 2 \(2 steps in a row\)"):
        take(task, state, config, candidates(task))


def test_ema_follows_the_weights() -> None:
    config = config_with(training__ema_decay=0.75, training__learning_rate=0.1)
    task, state = fresh(config)
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    take(task, state, config, candidates(task))
    assert state.ema is not None
    for name, value in state.model.state_dict().items():
        expected = 0.75 * before[name] + 0.25 * value
        torch.testing.assert_close(state.ema.tensors[name], expected, rtol=1e-6, atol=1e-7)


def test_the_learning_rate_of_a_step_is_used_in_that_step() -> None:
    config = config_with(training__warmup_steps=0, training__steps=1, training__batch_size=8)
    assert isinstance(config.training, TrainingConfig)
    task, state = fresh(config)  # the last step of a cosine: rate 0
    before = {k: v.clone() for k, v in state.model.state_dict().items()}
    take(task, state, config, candidates(task))
    torch.testing.assert_close(dict(state.model.state_dict()), before, rtol=0, atol=0)
