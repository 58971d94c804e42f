"""A recorded step gives what a step gives, whatever Python would decide anew in between."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reference_reasoner.engine.verification.model_checks import compiler
from reference_reasoner.reasoner.models.full_model import ReasonerConfig
from reference_reasoner.reasoner.models.serving.cuda_graph import WARM_UP, Run
from reference_reasoner.reasoner.models.serving.decoding import (
    DecodeState,
    prefill,
    step,
)
from reference_reasoner.reasoner.models.serving.graphed_decoding import GraphedDecoder
from reference_reasoner.reasoner.models.titans_mag import MagBlock

from .reasoners import (
    CAUSAL,
    DEEP,
    FIRST_PASS,
    GRID,
    STALE,
    reasoner,
    shallow,
    tokens_of,
)

LENGTH = 11
NO_MEMORY = replace(CAUSAL, backbone=replace(CAUSAL.backbone, use_memory=False))
ONE_TOKEN_CHUNKS = replace(
    DEEP, backbone=replace(DEEP.backbone, memory=replace(DEEP.backbone.memory, chunk=1))
)
CONFIGS = {
    "none": NO_MEMORY,
    "linear": CAUSAL,
    "deep": DEEP,
    "stale": STALE,
    "chunks_of_one": ONE_TOKEN_CHUNKS,
    **FIRST_PASS,
}
HOST_READS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero}


class Tape(TorchDispatchMode):
    """What a CUDA graph keeps of a run: which operators worked on which tensors, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.again: list[Callable[[], None]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func.overloadpacket not in HOST_READS, f"{func} waits for the device"
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        kept = [x for x in tree_leaves(out) if isinstance(x, Tensor)]

        def again() -> None:
            fresh = [x for x in tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for old, new in zip(kept, fresh, strict=True):
                if new.data_ptr() != old.data_ptr():
                    old.copy_(new)

        if not func.is_view:
            self.again.append(again)
        return out


def taped(run: Run) -> Run:
    """`captured` without a GPU: the result runs no Python of `run`, as a graph does not."""
    for _ in range(WARM_UP):
        run()
    with Tape() as tape:
        run()

    def replay() -> None:
        for again in tape.again:
            again()

    return replay


def tensors_of(state: DecodeState) -> list[Tensor]:
    return [x for x in tree_leaves(state.caches) if isinstance(x, Tensor)]


@pytest.mark.parametrize("given", [0, 3])
@pytest.mark.parametrize("window", [3, 0])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_equals_steps_bit_for_bit(config: ReasonerConfig, window: int, given: int) -> None:
    config = shallow(config)
    model = reasoner(replace(config, backbone=replace(config.backbone, window=window)))
    tokens = tokens_of(2, LENGTH)
    _, state = prefill(model, tokens[:, :given], capacity=LENGTH)
    _, same = prefill(model, tokens[:, :given], capacity=LENGTH)
    decoder = GraphedDecoder(model, same, capture=taped)
    for position in range(given, LENGTH):
        expected, state = step(model, tokens[:, position], state)
        assert torch.equal(decoder.step(tokens[:, position]), expected)
    assert decoder.position == state.position == LENGTH
    pairs = zip(tensors_of(decoder.state), tensors_of(state), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    rooms = [[each.attention.room for each in both.caches] for both in (decoder.state, state)]
    assert rooms[0] == rooms[1]


@pytest.mark.parametrize("config", [DEEP, FIRST_PASS["deep_once"]], ids=["deep", "deep_once"])
def test_several_layers_and_passes_are_one_recording(config: ReasonerConfig) -> None:
    model = reasoner(config)
    tokens = tokens_of(1, LENGTH)
    _, state = prefill(model, tokens[:, :6])
    decoder = GraphedDecoder(model, prefill(model, tokens[:, :6])[1], capture=taped)
    for position in range(6, LENGTH):
        expected, state = step(model, tokens[:, position], state)
        assert torch.equal(decoder.step(tokens[:, position]), expected)


@pytest.mark.parametrize("config", [DEEP, CAUSAL], ids=["deep", "linear"])
def test_recording_leaves_the_state_as_it_was(config: ReasonerConfig) -> None:
    model = reasoner(shallow(config))
    _, state = prefill(model, tokens_of(2, 6))
    before = [each.clone() for each in tensors_of(state)]
    recorded = []

    def counted(run: Run) -> Run:
        recorded.append(run)
        return taped(run)

    decoder = GraphedDecoder(model, state, capture=counted)
    assert all(map(torch.equal, tensors_of(state), before))
    assert decoder.position == 6
    # a step, and where weights freeze, that
    assert len(recorded) == (2 if config is DEEP else 1)


def test_a_recording_that_fails_leaves_the_state_as_it_was() -> None:
    model = reasoner(shallow(DEEP))
    _, state = prefill(model, tokens_of(2, 6))
    before = [each.clone() for each in tensors_of(state)]

    def failing(run: Run) -> Run:
        run()
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        GraphedDecoder(model, state, capture=failing)
    assert all(map(torch.equal, tensors_of(state), before))


def test_steps_go_on_from_where_it_stopped() -> None:
    model = reasoner(shallow(DEEP))
    tokens = tokens_of(2, LENGTH)
    _, state = prefill(model, tokens[:, :3])
    decoder = GraphedDecoder(model, prefill(model, tokens[:, :3])[1], capture=taped)
    for position in range(3, 9):
        _, state = step(model, tokens[:, position], state)
        decoder.step(tokens[:, position])
    expected, _ = step(model, tokens[:, 9], state)
    assert torch.equal(step(model, tokens[:, 9], decoder.state)[0], expected)


def test_greedy_feeds_each_answer_back() -> None:
    model = reasoner(shallow(DEEP))
    tokens = tokens_of(2, 5)
    _, state = prefill(model, tokens)
    decoder = GraphedDecoder(model, prefill(model, tokens)[1], capture=taped)
    token, expected = tokens[:, -1], []
    for _ in range(9):
        logits, state = step(model, token, state)
        token = logits.argmax(-1)
        expected.append(token)
    chosen = torch.cat([decoder.greedy(tokens[:, -1], 4), decoder.greedy(expected[3], 5)], 1)
    assert torch.equal(chosen, torch.stack(expected, 1))
    assert decoder.greedy(token, 0).shape == (2, 0)


def test_in_bfloat16_the_memory_stays_in_float32() -> None:
    model = reasoner(shallow(DEEP)).to(torch.bfloat16)
    tokens = tokens_of(2, LENGTH)
    _, state = prefill(model, tokens[:, :3])
    decoder = GraphedDecoder(model, prefill(model, tokens[:, :3])[1], capture=taped)
    for position in range(3, LENGTH):
        expected, state = step(model, tokens[:, position], state)
        logits = decoder.step(tokens[:, position])
        assert logits.dtype == torch.bfloat16
        assert torch.equal(logits, expected)
    attention, memory = decoder.state.caches[0]
    assert attention.all_keys.dtype == attention.all_values.dtype == torch.bfloat16
    assert memory is not None
    assert {each.dtype for each in memory.state} == {torch.float32}


@pytest.mark.parametrize(("form", "count"), [("deep", 1), ("deep_once", 2)])
@pytest.mark.parametrize("window", [3, 0])
def test_all_blocks_are_compiled_once(window: int, form: str, count: int) -> None:
    """But once for a pass that writes and once for those that read, where they differ."""
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    block_step = torch.compile(MagBlock.step, dynamic=False, backend=backend)
    config = CONFIGS[form]
    model = reasoner(replace(config, backbone=replace(config.backbone, window=window)))
    tokens = tokens_of(2, LENGTH)
    for given in (2, 5):
        _, state = prefill(model, tokens[:, :given], capacity=LENGTH)
        _, same = prefill(model, tokens[:, :given], capacity=LENGTH)
        decoder = GraphedDecoder(model, same, capture=lambda run: run, block_step=block_step)
        for position in range(given, LENGTH):
            expected, state = step(model, tokens[:, position], state)
            one = decoder.step(tokens[:, position])
            torch.testing.assert_close(one, expected, rtol=0, atol=1e-10)
    assert len(compiled) == count


def test_compiled_blocks_give_the_same() -> None:
    """By the compiler that users have, where weights freeze at every token."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        block_step = torch.compile(MagBlock.step, dynamic=False, backend=compiler()[0])
        model = reasoner(shallow(ONE_TOKEN_CHUNKS))
        tokens = tokens_of(2, LENGTH)
        _, state = prefill(model, tokens[:, :3])
        same = prefill(model, tokens[:, :3])[1]
        decoder = GraphedDecoder(model, same, capture=lambda run: run, block_step=block_step)
        for position in range(3, LENGTH):
            expected, state = step(model, tokens[:, position], state)
            one = decoder.step(tokens[:, position])
            torch.testing.assert_close(one, expected, rtol=0, atol=1e-10)


def test_no_token_goes_beyond_the_capacity() -> None:
    config = shallow(DEEP)
    model = reasoner(replace(config, backbone=replace(config.backbone, window=0)))
    tokens = tokens_of(1, 8)
    _, state = prefill(model, tokens[:, :6], capacity=7)
    decoder = GraphedDecoder(model, state, capture=taped)
    decoder.step(tokens[:, 6])
    with pytest.raises(ValueError, match="its capacity is 7 tokens"):
        decoder.step(tokens[:, 7])
    with pytest.raises(ValueError, match="its capacity is 7 tokens"):
        step(model, tokens[:, 7], decoder.state)
    with pytest.raises(ValueError, match="its capacity is 7 tokens"):
        GraphedDecoder(model, decoder.state, capture=taped)


def test_what_cannot_be_recorded_is_refused() -> None:
    model = reasoner(shallow(DEEP))
    _, state = prefill(model, tokens_of(2, 6))
    with pytest.raises(RuntimeError, match="needs a CUDA device, and the state is on cpu"):
        GraphedDecoder(model, state)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(RuntimeError, match="record outside of autocast"),
    ):
        GraphedDecoder(model, state, capture=taped)
    with pytest.raises(ValueError, match="only a causal model"):
        GraphedDecoder(reasoner(GRID), state, capture=taped)


@pytest.mark.parametrize("token", [torch.zeros(1).long(), torch.zeros(2), torch.zeros(2, 1).long()])
def test_a_token_for_each_row_is_needed(token: Tensor) -> None:
    model = reasoner(shallow(DEEP))
    decoder = GraphedDecoder(model, prefill(model, tokens_of(2, 6))[1], capture=taped)
    with pytest.raises(ValueError, match="one token int64 for each of 2 rows"):
        decoder.step(token)
