from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.model_inputs import (
    example_arguments,
    map_tensors,
    repeated,
    tensors_in,
    untrained_model,
    with_noise,
)

from ..toy.task import FEATURES, ToyTask, toy


class Pair(NamedTuple):
    left: Any
    right: Any


def test_tensors_are_found_in_every_container() -> None:
    one, two = torch.ones(1), torch.ones(1) * 2
    nested = Pair([one, 7], {"b": (two,), "c": None})
    assert [float(tensor) for tensor in tensors_in(nested)] == [1.0, 2.0]
    changed = map_tensors(nested, lambda tensor: tensor + 1)
    assert isinstance(changed, Pair)
    assert changed.left[1] == 7
    assert float(changed.right["b"][0]) == 3.0
    assert float(one) == 1.0


def test_only_batches_grow() -> None:
    table = torch.zeros(5, 2)
    scalar = torch.tensor(3)
    image, found_table, found_scalar = repeated((torch.ones(1, 2, 3), table, scalar), 4)
    assert image.shape == (4, 2, 3)
    assert found_table is table
    assert found_scalar is scalar


def test_noise_is_repeatable_and_spares_integers() -> None:
    given = (torch.zeros(3, 4), torch.arange(3), torch.zeros(2, dtype=torch.bfloat16))
    first, second = with_noise(given, 1), with_noise(given, 1)
    assert torch.equal(first[0], second[0])
    assert first[0].std() > 0
    assert torch.equal(first[1], given[1])
    assert first[2].dtype == torch.bfloat16
    assert not torch.equal(first[0], with_noise(given, 2)[0])


def test_a_task_without_an_example_input_is_told_to_write_one() -> None:
    class Bare(ToyTask):
        def example_input(self) -> Any:
            raise NotImplementedError

    with pytest.raises(RefusedInputError, match="write its example_input"):
        example_arguments(Bare(toy()))
    assert example_arguments(ToyTask(toy()))[0].shape == (1, FEATURES)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_model_is_the_one_a_run_starts_with(recompute: bool) -> None:
    config = overlay(toy(), {"training.activation_checkpointing": recompute}, "test")
    task = ToyTask(config)
    first = untrained_model(task, torch.device("cpu"))
    torch.manual_seed(99)
    second = untrained_model(task, torch.device("cpu"))
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    blocks = first.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    assert ("forward" in vars(blocks[0])) == recompute
