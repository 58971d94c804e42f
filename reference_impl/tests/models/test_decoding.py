"""Token by token equals all at once, at every length of what was there before."""

from dataclasses import replace

import pytest
import torch

from reference_reasoner.models.decoding import (
    prefill,
    step,
)
from reference_reasoner.models.full_model import ReasonerConfig

from .reasoners import (
    CAUSAL,
    DEEP,
    GRID,
    STALE,
    reasoner,
    tokens_of,
)

LENGTH = 9


@pytest.mark.parametrize("window", [4, 0])
@pytest.mark.parametrize("config", [CAUSAL, DEEP, STALE], ids=["linear", "deep", "stale"])
def test_prefill_and_steps_equal_the_parallel_pass(config: ReasonerConfig, window: int) -> None:
    model = reasoner(replace(config, backbone=replace(config.backbone, window=window)))
    tokens = tokens_of(2, LENGTH)
    depth = model.config.halting.max_steps
    with torch.no_grad():
        whole = list(model.at_depth(tokens, depth))[-1].logits
    for given in range(LENGTH + 1):
        logits, state = prefill(model, tokens[:, :given], capacity=LENGTH)
        torch.testing.assert_close(logits, whole[:, :given], rtol=0, atol=1e-10)
        for position in range(given, LENGTH):
            one, state = step(model, tokens[:, position], state)
            torch.testing.assert_close(one, whole[:, position], rtol=0, atol=1e-10)
        assert state.position == LENGTH


def test_a_grid_has_no_next_token() -> None:
    model = reasoner(GRID)
    with pytest.raises(ValueError, match="only a causal model"):
        prefill(model, tokens_of(1, 3))
    block = model.backbone.blocks[0]
    with pytest.raises(ValueError, match="as a set"):
        block.prefill(torch.zeros(1, 4, 16, dtype=torch.float64), prefix=0, capacity=4)


def test_a_model_without_memory_decodes_too() -> None:
    backbone = replace(CAUSAL.backbone, use_memory=False)
    model = reasoner(replace(CAUSAL, backbone=backbone))
    tokens = tokens_of(1, LENGTH)
    with torch.no_grad():
        whole = list(model.at_depth(tokens, 2))[-1].logits
    _, state = prefill(model, tokens[:, :5])
    for position in range(5, LENGTH):
        one, state = step(model, tokens[:, position], state)
        torch.testing.assert_close(one, whole[:, position], rtol=0, atol=1e-10)
