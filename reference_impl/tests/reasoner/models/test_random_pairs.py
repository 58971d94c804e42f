"""The memory learns while it runs: random pairs are known after they were written once."""

import torch

from .random_pairs import (
    deep_errors,
    default_gates,
    delta_rule_gates,
    linear_errors,
    pairs,
)


def test_a_pair_just_written_is_known_and_a_memory_fills_up() -> None:
    few, many = (linear_errors(writes, delta_rule_gates(writes)) for writes in (16, 1024))
    assert few[1] < 0.5
    # 1024 random pairs in 64 dimensions: most of them must be forgotten
    assert many[1] > 0.9
    assert many[0] < many[1]


def test_the_default_gates_learn_too() -> None:
    for measured in (linear_errors, deep_errors):
        last, every = measured(32, default_gates(32))
        assert last < 0.9
        assert every < 1.0


def test_the_delta_rule_is_a_loop_of_projections() -> None:
    keys, values = pairs(16)
    memory = torch.zeros(len(keys), 64, 64, dtype=torch.float64)
    for t in range(16):
        error = torch.einsum("nd,ndv->nv", keys[:, t], memory) - values[:, t]
        memory = memory - torch.einsum("nd,nv->ndv", keys[:, t], error)
    each = (torch.einsum("ntd,ndv->ntv", keys, memory) - values).norm(dim=-1)
    expected = float((each / values.norm(dim=-1)).mean())
    assert abs(linear_errors(16, delta_rule_gates(16))[1] - expected) < 1e-12
