"""Written in the first application of a recursion alone: equal to a loop over tokens."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.engine.training.device import (
    blocks_of,
    checkpoint_activations,
)
from reference_reasoner.reasoner.models import titans_mag
from reference_reasoner.reasoner.models.act_head import HaltingConfig
from reference_reasoner.reasoner.models.block_cache import recall_next
from reference_reasoner.reasoner.models.full_model import (
    RecursiveReasoner,
)
from reference_reasoner.reasoner.models.memory import routes
from reference_reasoner.reasoner.models.memory.cpu.heads_by_block import HeadsByBlock
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.heads import Heads
from reference_reasoner.reasoner.models.memory.neural_memory import MemoryConfig, NeuralMemory
from reference_reasoner.reasoner.models.memory.queries import (
    QueryCache,
    query_memory,
)
from reference_reasoner.reasoner.models.serving.decoding import prefill, step
from reference_reasoner.reasoner.models.titans_mag import (
    BackboneConfig,
    rms,
)

from .reasoners import FIRST_PASS, reasoner, shallow, tokens_of

WIDTH, PREFIX = 8, 3
LINEAR = MemoryConfig(heads=2, chunk=4, convolution=3, write="first_pass")
DEEP = replace(LINEAR, depth=2, features=6)
FORMS = {"linear": LINEAR, "deep": DEEP, "stale": replace(DEEP, gradient="stale")}
DOCUMENTS = {
    "whole": None,
    "packed": torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]]),
}


@pytest.fixture(params=["by_chunk", "graph"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CPUs, with gradients written out, and as elsewhere."""
    if request.param == "graph":
        monkeypatch.setattr(routes, "by_chunk_serves", lambda x: False)
        monkeypatch.setattr(HeadsByBlock, "serves", lambda x: False)


def memory(config: MemoryConfig) -> NeuralMemory:
    """In float64, with gates that look at their token."""
    torch.manual_seed(0)
    layer = NeuralMemory(WIDTH, config, causal=True).double()
    with torch.no_grad():
        layer.gates.linear.weight.add_(torch.randn_like(layer.gates.linear.weight))
    return layer


def given(batch: int, rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, rows, WIDTH, generator=generator, dtype=torch.float64)


def documents_of(row: Tensor | None, tokens: int) -> Iterator[slice]:
    """The tokens of each document of one row."""
    if row is None:
        yield slice(0, tokens)
        return
    for name in row.unique():
        at = (row == name).nonzero()[:, 0]
        yield slice(int(at[0]), int(at[-1]) + 1)


def token_by_token(layer: NeuralMemory, passes: list[Tensor], part: slice) -> list[Tensor]:
    """One document's tokens of one row; each is written in the first pass, then read in all."""
    begin, end = PREFIX + part.start, PREFIX + part.stop
    pairs = [layer.heads(layer.qkv(x[:, begin:end])) for x in passes]
    gates = layer.gates(passes[0][:, begin:end])
    state, reads = layer.initial_state(1), [list[Tensor]() for _ in passes]
    for place in range(part.stop - part.start):
        heads = Heads(*(each[:, place] for each in pairs[0]))
        _, state = layer.write(heads, Gates(*(each[:, place] for each in gates)), state, place)
        for read, each in zip(reads, pairs, strict=True):
            read.append(layer.read(each.query[:, place, None], state))
    return [
        layer.output(torch.cat(read, 1), x[:, begin:end])
        for read, x in zip(reads, passes, strict=True)
    ]


def twin(layer: NeuralMemory, passes: list[Tensor], documents: Tensor | None) -> list[Tensor]:
    """Every pass's output [B, P + T, W], from loops over rows, documents and tokens."""
    rows = []
    for row in range(len(passes[0])):
        alone = [x[row, None] for x in passes]
        first = layer.initial_state(1)
        outs = [
            [layer.output(layer.read(layer.heads(layer.qkv(x[:, :PREFIX])).query, first), x)]
            for x in alone
        ]
        own = None if documents is None else documents[row]
        for part in documents_of(own, passes[0].shape[1] - PREFIX):
            for out, more in zip(outs, token_by_token(layer, alone, part), strict=True):
                out.append(more)
        rows.append([torch.cat(out, 1) for out in outs])
    return [torch.cat(each) for each in zip(*rows, strict=True)]


def compared(layer: NeuralMemory, passes: list[Tensor], outs: list[Tensor]) -> list[Tensor]:
    """Outputs, and gradients of a random sum of them in inputs and parameters."""
    total = sum((out * given(*out.shape[:2], seed=20 + i)).sum() for i, out in enumerate(outs))
    return [*outs, *torch.autograd.grad(total, [*passes, *layer.parameters()])]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("packing", DOCUMENTS)
@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradients_are_those_of_a_loop_over_tokens(form: str, packing: str) -> None:
    """11 tokens in chunks of 4; three passes, of which the later ones ask."""
    layer, documents = memory(FORMS[form]), DOCUMENTS[packing]
    passes = [given(2, PREFIX + 11, seed=seed).requires_grad_() for seed in range(3)]
    out, _, written = layer.record(passes[0], PREFIX, documents)
    options = {"prefix": PREFIX, "documents": documents}
    later = [query_memory(layer, x, written, **options)[0] for x in passes[1:]]
    found = compared(layer, passes, [out, *later])
    expected = compared(layer, passes, twin(layer, passes, documents))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_the_first_pass_is_what_every_pass_is_otherwise(form: str) -> None:
    layer = memory(FORMS[form])
    x = given(2, PREFIX + 11, seed=0)
    out, _, written = layer.record(x, PREFIX, None)
    torch.testing.assert_close(out, layer(x, prefix=PREFIX), rtol=0, atol=1e-10)
    again, _ = query_memory(layer, x, written, prefix=PREFIX)
    torch.testing.assert_close(again, out, rtol=0, atol=1e-10)


def test_queries_of_no_tokens_and_of_single_taps() -> None:
    layer = memory(replace(LINEAR, convolution=1))
    x = given(1, PREFIX, seed=0)
    _, cache, written = layer.record(x, PREFIX, None)
    out, tail = query_memory(layer, x, written, prefix=PREFIX)
    torch.testing.assert_close(out, layer(x, prefix=PREFIX), rtol=0, atol=1e-10)
    assert tail.shape == (1, 0, WIDTH)
    token = given(1, 1, seed=1)
    out, cache = layer.step(token, cache, 0)
    again = recall_next(layer, token, QueryCache(cache.state, tail), 0)
    torch.testing.assert_close(again, out, rtol=0, atol=1e-10)


def applied(model: RecursiveReasoner, x: Tensor, passes: list[list[Tensor]]) -> Tensor:
    """One application; `passes` holds each block's inputs since the recursion began."""
    for block, inputs in zip(model.backbone.blocks, passes, strict=True):
        inputs.append(x)
        attended = block.attention(x, prefix=PREFIX)
        x = rms(x + block.gate(x, attended, twin(block.memory, inputs, None)[-1]))
        x = rms(x + block.feed_forward(x))
    return x


def by_hand(model: RecursiveReasoner, tokens: Tensor) -> Tensor:
    """Logits of all supervision steps, [S, B, T, V]: TRM's recursion, the memory by `twin`."""
    config, question = model.config, model.question(tokens)
    answer, latent = model.initial(question)
    found = []
    for _ in range(config.halting.max_steps):
        answer, latent = answer.detach(), latent.detach()
        for recursion in range(config.recursion.recursions):
            with torch.set_grad_enabled(recursion == config.recursion.recursions - 1):
                passes: list[list[Tensor]] = [[] for _ in model.backbone.blocks]
                for _ in range(config.recursion.latent_steps):
                    latent = applied(model, question + answer + latent, passes)
                answer = applied(model, answer + latent, passes)
        found.append(model.logits(answer[:, PREFIX:]))
    return torch.stack(found)


def outcome(model: RecursiveReasoner, logits: Tensor) -> list[Tensor]:
    """Logits [S, B, T, V], and the gradients of a sum of their functions in all parameters."""
    total = (logits.sin() * torch.arange(1, len(logits) + 1)[:, None, None, None]).sum()
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return [logits, *gradients]


def stepped(model: RecursiveReasoner, tokens: Tensor) -> list[Tensor]:
    """`outcome` of the model as it is."""
    steps = model.at_depth(tokens, model.config.halting.max_steps)
    return outcome(model, torch.stack([each.logits for each in steps]))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("form", FIRST_PASS)
def test_the_model_is_its_recursion_by_hand(form: str) -> None:
    config = replace(FIRST_PASS[form], halting=HaltingConfig(max_steps=1))
    model, tokens = reasoner(config), tokens_of(2, 10)
    assert model.config.persistent_tokens == PREFIX
    expected = outcome(model, by_hand(model, tokens))
    for one, other in zip(stepped(model, tokens), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", FIRST_PASS)
def test_recomputed_blocks_give_the_same(form: str) -> None:
    model, tokens = reasoner(FIRST_PASS[form]), tokens_of(2, 10)
    expected = stepped(model, tokens)
    checkpoint_activations(model)
    for one, other in zip(stepped(model, tokens), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_compiled_blocks_give_the_same() -> None:
    """Of a deep memory, whose second layer is a linear one."""
    model, tokens = reasoner(shallow(FIRST_PASS["deep_once"])), tokens_of(2, 8)
    expected = stepped(model, tokens)
    torch.compiler.reset()
    for block in blocks_of(model):
        block.compile(dynamic=False, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        found = stepped(model, tokens)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_a_recursion_scans_once_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = {"record": 0, "query": 0}
    record, query = NeuralMemory.record, titans_mag.query_memory

    def recording(*words: Any, **named: Any) -> Any:
        calls["record"] += 1
        return record(*words, **named)

    def querying(*words: Any, **named: Any) -> Any:
        calls["query"] += 1
        return query(*words, **named)

    monkeypatch.setattr(NeuralMemory, "record", recording)
    monkeypatch.setattr(titans_mag, "query_memory", querying)
    model = reasoner(FIRST_PASS["deep_once"])
    model(tokens_of(1, 5))
    recursion, layers = model.config.recursion, model.config.backbone.layers
    assert calls["record"] == recursion.recursions * layers == 4
    assert calls["query"] == recursion.recursions * recursion.latent_steps * layers == 8


def test_decoding_keeps_one_memory_state_a_layer_and_recursion() -> None:
    model = reasoner(FIRST_PASS["deep_once"])
    _, state = prefill(model, tokens_of(1, 6))
    _, state = step(model, tokens_of(1, 1)[:, 0], state)
    places = [each.memory.state.first.data_ptr() for each in state.caches]
    applications = model.config.recursion.latent_steps + 1
    assert len(places) == applications * len(set(places))
    tails = [tuple(each.memory.tail.shape) for each in state.caches]
    first, later = (1, 3, 3 * 16), (1, 3, 16)  # later passes keep queries alone
    layers = model.config.backbone.layers
    assert tails == ([first] * layers + [later] * 2 * layers) * 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"causal": False}, "got causal False and use_memory True"),
        ({"use_memory": False}, "got causal True and use_memory False"),
    ],
)
def test_models_that_it_is_not_for_are_refused(changes: dict, said: str) -> None:
    config = BackboneConfig(causal=True, memory=LINEAR)
    with pytest.raises(ValueError, match="'first_pass', which is for causal models.*" + said):
        replace(config, **changes)
