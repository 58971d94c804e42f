"""Token by token equals all at once, at every length of what was there before."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reference_reasoner.reasoner.models.full_model import ReasonerConfig
from reference_reasoner.reasoner.models.memory.queries import QueryCache
from reference_reasoner.reasoner.models.serving.decoding import (
    DecodeState,
    prefill,
    step,
)

from .reasoners import (
    CAUSAL,
    CAUSAL_FORMS,
    FIRST_PASS,
    GRID,
    reasoner,
    shallow,
    tokens_of,
)

LENGTH = 9
FORMS = CAUSAL_FORMS | FIRST_PASS


@pytest.mark.parametrize("window", [4, 0])
@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
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


@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("given", [0, 1, 4, 13])
def test_a_ring_may_wrap_wherever_the_prompt_ends(given: int, window: int) -> None:
    config = shallow(CAUSAL)
    model = reasoner(replace(config, backbone=replace(config.backbone, window=window)))
    tokens = tokens_of(2, 18)
    with torch.no_grad():
        whole = list(model.at_depth(tokens, model.config.halting.max_steps))[-1].logits
    _, state = prefill(model, tokens[:, :given])
    for position in range(given, 18):
        one, state = step(model, tokens[:, position], state)
        torch.testing.assert_close(one, whole[:, position], rtol=0, atol=1e-10)


def tensors_of(state: DecodeState) -> list[Tensor]:
    return [x for x in tree_leaves(state.caches) if isinstance(x, Tensor)]


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("given", [0, 4, 6])
def test_a_step_allocates_no_state(config: ReasonerConfig, given: int) -> None:
    model = reasoner(shallow(config))
    tokens = tokens_of(1, 20)
    _, state = prefill(model, tokens[:, :given])
    before = [(x.data_ptr(), tuple(x.shape)) for x in tensors_of(state)]
    places = [place for place, _ in before]
    applications, memories = len(state.caches), [each.memory for each in state.caches]
    shared = sum(len(each.state) for each in memories if isinstance(each, QueryCache))
    # count and mask, too
    assert len(set(places)) == len(places) - 2 * (applications - 1) - shared
    for position in range(given, 20):
        _, state = step(model, tokens[:, position], state)
        assert [(x.data_ptr(), tuple(x.shape)) for x in tensors_of(state)] == before
    assert int(state.caches[0].attention.seen) == 20


class Work(TorchDispatchMode):
    """Operators, and how many numbers they give."""

    operators = numbers = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.operators += 1
        self.numbers += sum(x.numel() for x in tree_leaves(out) if isinstance(x, Tensor))
        return out


@pytest.mark.parametrize("form", ["linear", "deep", "deep_once"])
def test_a_step_does_the_same_work_after_any_number_of_tokens(form: str) -> None:
    model = reasoner(shallow(FORMS[form]))
    done = []
    for given in (1, 5, 101):  # each one past the beginning of a chunk
        _, state = prefill(model, tokens_of(1, given))
        with Work() as work:
            step(model, tokens_of(1, 1)[:, 0], state)
        done.append((work.operators, work.numbers))
    assert done[0][0] > 50
    assert done == [done[0]] * 3
