"""What is counted equals what a hand, a plain hook and the disk say."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.config.run_config import RunConfig, TrainingConfig
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.counted.passes import saved_activations
from reference_reasoner.engine.profiling.counted.quantities import exact_quantities
from reference_reasoner.engine.training import checkpoint
from reference_reasoner.engine.training.task import Task

from ...toy.runs import run_toy
from ...toy.task import ToyTask, toy
from ..models import (
    Attention,
    Convolution,
    Normed,
    Peeking,
    Recurrent,
    Shared,
    Stack,
    task_of,
)


def test_a_convolution_by_hand() -> None:
    found = exact_quantities(task_of(Convolution, (1, 3, 10, 10)))
    convolution, head = 2 * 100 * 8 * 27, 2 * 800 * 5
    assert found.parameters == 8 * 27 + 8 + 800 * 5 + 5
    assert found.parameters_by_module == {"convolution": 224, "head": 4005}
    assert found.forward_flops_per_example == convolution + head
    # backward: of the weights, and of what comes in unless that is the image
    assert found.training_flops_per_example == 2 * convolution + 3 * head
    assert found.counted_on == "meta"
    # the image, what relu gave, which flatten only views; the weights are no activations
    assert found.saved_activation_bytes_per_example == 4 * (300 + 800)
    assert found.graph_breaks == 0


@pytest.mark.parametrize("causal", [True, False])
def test_attention_by_hand(causal: bool) -> None:
    found = exact_quantities(task_of(lambda: Attention(causal=causal), (1, 16, 32)))
    inward, outward = 2 * 16 * 32 * 96, 2 * 16 * 32 * 32
    attention = 2 * (2 * 4 * 16 * 16 * 8)  # query by key, and by value; in full if causal
    assert found.parameters == 32 * 96 + 32 * 32
    assert found.forward_flops_per_example == inward + outward + attention
    # the tokens need no gradient
    assert found.training_flops_per_example == 2 * inward + 3 * outward + 3 * attention


def test_shared_weights_by_hand() -> None:
    found = exact_quantities(task_of(Shared, (1, 8)))
    layer = 2 * 8 * 8
    assert found.parameters == 8 * 8 + (8 * 8 + 8)
    assert found.parameters_by_module == {"first": 64, "blocks.0.0": 72}
    assert found.forward_flops_per_example == 5 * layer
    assert found.training_flops_per_example == 2 * layer + 4 * 3 * layer
    # the point, what goes into each layer, and what each tanh gave: three tanh outputs are the
    # inputs of what follows them
    assert found.saved_activation_bytes_per_example == 4 * 8 * (1 + 1 + 3)


def plain_count(model: nn.Module, *arguments: Tensor) -> int:
    """Bytes that a plain hook sees, each storage once, without the model's own."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    seen: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*arguments)
    return sum(seen.values())


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (Convolution, (1, 3, 10, 10)),
        (Attention, (1, 16, 32)),
        (Shared, (1, 8)),
        (Stack, (1, 16, 32)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_saved_activations_equal_a_plain_hooks_count(build: Any, shape: tuple[int, ...]) -> None:
    found = exact_quantities(task_of(build, shape))
    assert found.saved_activation_bytes_per_example == plain_count(build(), torch.randn(shape))


def test_recomputing_keeps_inputs_of_blocks_and_one_block() -> None:
    model = Stack(blocks=3)
    tokens = torch.randn(1, 16, 32)
    found, _ = saved_activations(model, lambda: model(tokens))
    one_block = plain_count(model.blocks[0], tokens) - tokens.nbytes
    with torch.no_grad():
        hidden = model.norm(tokens)
    # the norm keeps the tokens, their mean and spread; each block's input and tanh output are
    # kept outside of it; the last sum is no block's input
    outside = tokens.nbytes + 2 * 16 * 4 + 3 * hidden.nbytes
    assert len(found.in_blocks) == 3
    assert found.checkpointed_bytes() == outside + 3 * hidden.nbytes + one_block
    assert found.all_bytes() == plain_count(model, tokens)


def test_a_block_within_a_block_belongs_to_the_outer_one() -> None:
    inner = nn.Sequential(nn.ModuleList([nn.Linear(4, 4)])[0], nn.Tanh())
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Sequential(inner, nn.Tanh())])
    model.more = nn.ModuleList([inner])
    point = torch.randn(1, 4)
    found, _ = saved_activations(model, lambda: model.blocks[0](point))
    assert len(found.in_blocks) == 1
    assert found.checkpointed_bytes() == found.all_bytes() == 3 * point.nbytes


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_bytes_equal_those_on_the_disk(tmp_path: Path, decay: float) -> None:
    overrides = {"training.ema_decay": decay}
    run_toy(tmp_path / "run", overrides)
    snapshot = checkpoint.newest(tmp_path / "run" / "checkpoints").snapshot
    assert snapshot is not None
    sizes = {
        name: sum(tensor.nbytes for tensor in tensors.values())
        for name, tensors in snapshot.groups.items()
    }
    found = exact_quantities(ToyTask(overlay(toy(), overrides, "test")))
    del sizes["carry"]
    assert set(sizes) == {"model", "optimizer"} | ({"ema"} if decay else set())
    assert found.optimizer_bytes == sizes["optimizer"]
    assert found.checkpoint_bytes == sum(sizes.values())


def test_frozen_parameters_cost_no_optimizer_state() -> None:
    def build() -> nn.Module:
        model = Convolution()
        model.convolution.requires_grad_(False)
        return model

    found = exact_quantities(task_of(build, (1, 3, 10, 10)))
    assert found.trainable_parameters == 4005
    assert found.optimizer_bytes == 2 * 4 * 4005 + 2 * 4
    assert found.training_flops_per_example == 2 * 100 * 8 * 27 + 2 * (2 * 800 * 5)


def test_a_model_without_parameters_to_train_has_no_backward() -> None:
    found = exact_quantities(task_of(nn.Tanh, (1, 4)))
    assert found.parameters == found.training_flops_per_example == 0
    assert found.optimizer_bytes == found.checkpoint_bytes == 0


def test_a_model_that_needs_numbers_is_counted_on_the_cpu() -> None:
    found = exact_quantities(task_of(Peeking, (1, 4)))
    assert found.counted_on.startswith("cpu at batch 1: the model does not run on meta tensors (")
    assert found.forward_flops_per_example == 2 * 4 * 4
    assert found.graph_breaks == 1


def test_fused_recurrence_counts() -> None:
    found = exact_quantities(task_of(Recurrent, (1, 5, 8)))
    assert found.counted_on == "meta"
    assert found.forward_flops_per_example == 5 * 2 * 4 * 16 * (8 + 16)  # four gates, five steps


def test_a_batch_norm_that_refuses_one_example_is_held() -> None:
    found = exact_quantities(task_of(Normed, (1, 4)))
    assert found.counted_on == "meta"
    assert found.forward_flops_per_example == 2 * 4 * 4
    assert found.saved_activation_bytes_per_example == 4 * (4 + 4)  # what goes into each layer
    assert found.checkpoint_bytes == 3 * 4 * (20 + 8) + 4 * 4 + 2 * 4 * 4 + 8  # and its statistics


def test_an_example_input_made_earlier_will_do() -> None:
    task = task_of(Shared)
    stored = (torch.zeros(1, 8),)
    task.example_input = lambda: stored  # type: ignore[method-assign]
    assert exact_quantities(task).counted_on == "meta"
    assert exact_quantities(task) == exact_quantities(task_of(Shared, (1, 8)))


def test_size_costs_no_memory_and_no_random_number_is_spent() -> None:
    state = torch.random.get_rng_state()
    found = exact_quantities(task_of(lambda: nn.Linear(2**20, 2**20, bias=False), (1, 2**20)))
    assert found.parameters == 2**40  # four terabytes, were it real
    assert found.forward_flops_per_example == 2 * 2**40
    exact_quantities(task_of(Peeking, (1, 4)))  # which draws real weights
    assert torch.equal(state, torch.random.get_rng_state())


def test_average_and_names() -> None:
    config = RunConfig(training=TrainingConfig(ema_decay=0.9))
    plain = exact_quantities(task_of(Shared, (1, 8)))
    averaged = exact_quantities(task_of(Shared, (1, 8), config=config))
    state = 4 * (64 + 64 + 72)  # the shared weight is saved under both its names
    assert averaged.checkpoint_bytes - plain.checkpoint_bytes == state
    names = list(plain.budgeted())
    assert names == sorted(names)
    assert "counted_on" not in names
    assert all(type(value) is int for value in plain.budgeted().values())


def test_what_cannot_be_counted_is_refused() -> None:
    wrong = task_of(Convolution, (1, 4, 10, 10))
    with pytest.raises(RefusedInputError, match=r"does not run on its example_input\(\): Runtime"):
        exact_quantities(wrong)
    with pytest.raises(RefusedInputError, match="ValueError: it is raining"):
        exact_quantities(task_of(Raining, (1, 4)))
    silent = type("Silent", (ToyTask,), {"example_input": Task.example_input})
    with pytest.raises(RefusedInputError, match="write its example_input"):
        exact_quantities(silent(toy()))


class Raining(nn.Module):
    """Refuses to run."""

    def forward(self, point: Tensor) -> Tensor:
        raise ValueError("it is raining")


class NeedsNumbersAndTellsNothing(ToyTask):
    """No example_input, and a model that cannot be built of fake tensors."""

    def build_model(self) -> nn.Module:
        torch.zeros(1).item()
        return super().build_model()

    def example_input(self) -> Any:
        raise NotImplementedError


def test_what_cannot_be_counted_on_the_cpu_either_is_refused() -> None:
    with pytest.raises(RefusedInputError, match="write its example_input"):
        exact_quantities(NeedsNumbersAndTellsNothing(toy()))
