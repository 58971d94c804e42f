"""The plan's arithmetic is that of real forward passes."""

import pytest
import torch

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.config.run_config import RunConfig, TrainingConfig
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.counted.memory_plan import (
    CONTEXT_BYTES,
    Line,
    carry_bytes,
    fit,
    need,
    parse_memory,
)
from reference_reasoner.engine.profiling.tables import plan_lines
from reference_reasoner.engine.training.device import (
    autocast,
    checkpoint_activations,
)

from ...toy.task import ToyConfig, ToyTask, toy
from ..measured.test_bench_steps import ExampleToy
from ..models import Convolution, Normed, Peeking, Shared, Stack, task_of
from .test_quantities import plain_count

CONFIG = RunConfig(training=TrainingConfig(batch_size=64))
STACK = task_of(lambda: Stack(blocks=4), (1, 16, 32), config=CONFIG)
LARGE = 10**12


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_activations_are_those_of_a_real_pass(rows: int) -> None:
    plan = fit(STACK, LARGE)
    model, tokens = Stack(blocks=4), torch.randn(rows, 16, 32)
    assert plan.activations[False].at(rows) == plain_count(model, tokens)
    block = plain_count(model.blocks[0], tokens) - tokens.nbytes
    checkpoint_activations(model)
    # a hook outside sees the inputs of recomputed blocks, and nothing of what they keep later
    outside = plain_count(model, tokens)
    assert plan.activations[True].at(rows) == outside + block


def test_what_does_not_grow() -> None:
    model = Stack(blocks=4)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    parameters = len(list(model.parameters()))
    fixed = fit(STACK, LARGE).fixed_bytes
    assert fixed == {
        "weights": weights,
        "gradients": weights,
        "optimizer": 2 * weights + 4 * parameters,
        "average": 0,
        "old_and_new_carry": 0,
    }
    averaged = RunConfig(training=TrainingConfig(ema_decay=0.9))
    task = task_of(lambda: Stack(blocks=4), (1, 16, 32), config=averaged)
    assert fit(task, LARGE).fixed_bytes["average"] == weights


def test_a_shared_weight_is_held_once_and_averaged_twice() -> None:
    config = RunConfig(training=TrainingConfig(ema_decay=0.9))
    fixed = fit(task_of(Shared, (1, 8), config=config), LARGE).fixed_bytes
    assert fixed["weights"] == fixed["gradients"] == 4 * (64 + 72)
    assert fixed["average"] == 4 * (64 + 64 + 72)


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_activations_follow_the_precision(rows: int) -> None:
    training = TrainingConfig(batch_size=64, precision="bf16")
    task = task_of(lambda: Stack(blocks=4), (1, 16, 32), config=RunConfig(training=training))
    plan = fit(task, LARGE)
    model, tokens = Stack(blocks=4), torch.randn(rows, 16, 32)
    with autocast(torch.device("cpu"), training):
        assert plan.activations[False].at(rows) == plain_count(model, tokens)
    # the copies of the weights in bf16; the first block's input needs gradients, as the norm's do
    copies = sum(p.nbytes for block in model.blocks for p in block.parameters()) // 2
    assert plan.activations[False].constant == copies
    assert plan.activations[True].constant == copies
    text = "\n".join(plan_lines(plan))
    assert "counted in bf16 on meta" in text
    assert "+ 0.03 MiB at any size" in text


def test_the_ends_are_the_batch_and_what_a_loss_makes_of_the_output() -> None:
    plan = fit(task_of(Convolution, (1, 3, 10, 10), config=CONFIG), LARGE)
    assert plan.ends == Line(constant=0, per_example=4 * 300 + 3 * 4 * 5)
    assert plan.chosen is not None
    growing = plan.activations[False] + plan.ends
    assert plan.chosen.need_bytes == need(sum(plan.fixed_bytes.values()), growing.at(64))


def test_a_batch_norm_that_refuses_one_example_has_a_plan() -> None:
    plan = fit(task_of(Normed, (1, 4), config=CONFIG), LARGE)
    assert plan.counted_on == "meta"
    assert plan.activations[False].at(5) == plain_count(Normed(), torch.randn(5, 4))


def memory_for(rows: int, *, recomputed: bool) -> int:
    """Exactly what `rows` examples at once need."""
    plan = fit(STACK, LARGE)
    growing = plan.activations[recomputed] + plan.ends
    return need(sum(plan.fixed_bytes.values()), growing.at(rows))


def test_everything_fits_where_there_is_plenty() -> None:
    plan = fit(STACK, LARGE)
    assert plan.chosen is not None
    assert (plan.chosen.micro_batch, plan.chosen.accumulation_steps) == (64, 1)
    assert not plan.chosen.activation_checkpointing
    assert "the whole batch fits" in plan.why


@pytest.mark.parametrize(("rows", "micro_batch", "steps"), [(20, 16, 4), (16, 16, 4), (8, 8, 8)])
def test_the_largest_even_micro_batch_is_taken(rows: int, micro_batch: int, steps: int) -> None:
    plan = fit(STACK, memory_for(rows, recomputed=False))
    assert plan.chosen is not None
    assert not plan.chosen.activation_checkpointing
    assert (plan.chosen.micro_batch, plan.chosen.accumulation_steps) == (micro_batch, steps)
    assert plan.chosen.need_bytes <= plan.memory_bytes
    assert f"micro-batches of {micro_batch} keep a GPU busy" in plan.why


def test_one_byte_less_is_one_example_less() -> None:
    memory = memory_for(16, recomputed=False)
    assert fit(STACK, memory).options[0].micro_batch == 16
    # within the reserve's rounding
    assert fit(STACK, memory - 3).options[0].accumulation_steps == 5


def test_recomputing_is_taken_where_little_fits_without() -> None:
    plan = fit(STACK, memory_for(4, recomputed=False))
    assert plan.chosen is not None
    assert plan.chosen.activation_checkpointing
    assert plan.chosen.micro_batch > plan.options[0].micro_batch == 4
    assert "without recomputing only 4 examples fit" in plan.why
    text = "\n".join(plan_lines(plan))
    assert "--training.activation_checkpointing True for the batch of 64" in text
    assert "micro-batch 4 x 16 accumulation steps" in text


def test_only_recomputed_may_fit_at_all() -> None:
    plan = fit(STACK, memory_for(1, recomputed=True))
    assert plan.chosen is not None
    assert plan.options[0].micro_batch == 0
    assert "not one example fits" in "\n".join(plan_lines(plan))


def test_nothing_fits() -> None:
    plan = fit(STACK, CONTEXT_BYTES)
    assert plan.chosen is None
    assert "nothing fits: one example alone needs" in plan_lines(plan)[-1]


def test_without_blocks_nothing_can_be_recomputed() -> None:
    plan = fit(task_of(Convolution, (1, 3, 10, 10), config=CONFIG), LARGE)
    assert len(plan.options) == 1
    assert plan.chosen == plan.options[0]
    less = plan.chosen.need_bytes - plan.activations[False].per_example
    plan = fit(task_of(Convolution, (1, 3, 10, 10), config=CONFIG), less)
    assert plan.options[0].accumulation_steps == 2
    assert "would not make a larger micro-batch fit" in plan.why


# a row of the toy's: example_id, label int64, point 6 float32, value float32, value_known bool,
# latent 8 float32, refinements int64
CARRY = 12 * (8 + 8 + 6 * 4 + 4 + 1 + 8 * 4 + 8)


def test_a_carry_is_there_twice_while_the_micro_batches_run() -> None:
    task = ExampleToy(toy())
    assert carry_bytes(task) == CARRY
    plan, without = fit(task, LARGE), fit(ToyTask(toy()), LARGE)
    assert plan.fixed_bytes == {**without.fixed_bytes, "old_and_new_carry": 2 * CARRY}
    assert (plan.activations, plan.ends) == (without.activations, without.ends)
    assert plan.options[0].need_bytes > without.options[0].need_bytes
    assert f"  {'old and new carry':<38}{'0.00 MiB':>12}" in plan_lines(plan)


def test_a_third_carry_must_fit_where_the_activations_are_smaller() -> None:
    task = ExampleToy(toy())
    task.config = toy_of(10_000)
    plan = fit(task, LARGE)
    fixed, carry = sum(plan.fixed_bytes.values()), carry_bytes(task)
    growing = plan.activations[False] + plan.ends
    assert growing.at(10) < carry < growing.at(10_000)
    least = need(fixed, carry)
    assert fit(task, least).options[0].micro_batch > 10
    assert fit(task, least).options[0].need_bytes == least
    assert fit(task, least - 100).options[0].micro_batch == 0
    assert fit(task, least - 100).options[0].need_bytes == least


def toy_of(batch_size: int) -> ToyConfig:
    config: ToyConfig = overlay(toy(), {"training.batch_size": batch_size}, "test")
    return config


def test_a_task_without_a_carry_or_an_example_has_no_such_bytes() -> None:
    assert carry_bytes(ToyTask(toy())) == 0
    assert carry_bytes(ExampleToy(overlay(toy(), {"use_carry": False}, "test"))) == 0


def test_a_model_that_needs_numbers_is_counted_on_the_cpu() -> None:
    plan = fit(task_of(Peeking, (1, 4)), LARGE)
    assert "counted in fp32 on cpu at batches 2 and 3: the model does" in plan_lines(plan)[0]


def test_activations_that_do_not_grow_fit_or_do_not() -> None:
    assert Line.through(100, 100).at(7) == 100
    constant = task_of(lambda: torch.nn.Tanh(), (3, 4), config=CONFIG)  # no batch of 1 to repeat
    assert fit(constant, LARGE).options[0].micro_batch == 64
    assert fit(constant, CONTEXT_BYTES - 1).options[0].micro_batch == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GiB", 6 * 2**30), ("1.5 GiB", 3 * 2**29), ("900MB", 9 * 10**8), ("2MiB", 2**21)],
)
def test_memory_has_a_unit(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["6", "6G", "GiB", "-6GiB", "0GiB", "6gib", "6TiB"])
def test_memory_without_one_is_refused(text: str) -> None:
    with pytest.raises(RefusedInputError, match=r"write a number and a unit, as 6GiB"):
        parse_memory(text)
