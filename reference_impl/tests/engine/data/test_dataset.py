"""Examples become a batch."""

import pytest
import torch

from reference_reasoner.engine.data.dataset import collate


def test_collate_stacks_each_field() -> None:
    examples = [{"example_id": torch.tensor(i), "x": torch.full((2, 3), i)} for i in (4, 7)]
    batch = collate(examples)
    assert list(batch) == ["example_id", "x"]
    assert batch["example_id"].tolist() == [4, 7]
    assert batch["example_id"].dtype == torch.int64
    assert batch["x"].shape == (2, 2, 3)
    assert torch.equal(batch["x"][1], examples[1]["x"])


def test_examples_of_another_shape_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match="equal size"):
        collate([{"x": torch.zeros(2)}, {"x": torch.zeros(3)}])
