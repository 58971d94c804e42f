"""Gate and surprise, against a slow twin: loops over tokens and heads, autograd's steps."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.reasoner.evaluation.memory_use import (
    ANSWER,
    FIRST,
    LATENT,
    Measured,
    Moments,
    Place,
    memory_blocks,
    memory_use,
)
from reference_reasoner.reasoner.models.full_model import (
    ReasonerConfig,
    RecursiveReasoner,
)
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory

from ..models.reasoners import CAUSAL, DEEP, FIRST_PASS, GRID, STALE, reasoner, tokens_of

TOKENS = 10
COUNT = 3


def with_memory(config: ReasonerConfig, **changes: Any) -> ReasonerConfig:
    backbone = config.backbone
    return replace(config, backbone=replace(backbone, memory=replace(backbone.memory, **changes)))


CONFIGS = {
    "causal linear": CAUSAL,
    "causal deep": DEEP,
    "causal stale": STALE,
    "causal deep once": FIRST_PASS["deep_once"],
    "set linear": with_memory(GRID, depth=1, features=128),
    "set deep": with_memory(GRID, set_steps=2),
}


@dataclass(frozen=True, kw_only=True)
class Given:
    """Some examples."""

    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        return {"tokens": self.tokens[index], "example_id": torch.tensor(index)}


def examples() -> Given:
    return Given(tokens=tokens_of(COUNT + 2, TOKENS))


def inputs_by_hand(model: RecursiveReasoner, tokens: Tensor) -> dict[Place, Tensor]:
    """TRM's recursion written out; what goes into each block when it is applied last."""
    config, found = model.config, {}
    question = model.question(tokens)
    answer, latent = model.initial(question)
    once = config.backbone.memory.write == "first_pass"
    written: dict[int, Any] = {}

    def apply(x: Tensor, update: str, step: int) -> Tensor:
        for layer, block in enumerate(model.backbone.blocks, start=1):
            found[Place(update, layer, step)] = x
            if not once:
                x = block(x, config.persistent_tokens)
                continue
            if layer not in written:
                found[Place(FIRST, layer, step)] = x
            x, written[layer] = block(x, config.persistent_tokens, None, None, written.get(layer))
        return x

    for step in range(1, config.halting.max_steps + 1):
        for _ in range(config.recursion.recursions):
            written.clear()
            for _ in range(config.recursion.latent_steps):
                latent = apply(question + answer + latent, LATENT, step)
            answer = apply(answer + latent, ANSWER, step)
    return found


@dataclass
class Pairs:
    """Of one example and one head: keys and values [P + T, D], and gates by name, [P + T] each."""

    key: Tensor
    value: Tensor
    gates: dict[str, Tensor]


def pairs_by_hand(memory: NeuralMemory, x: Tensor, prefix: int, head: int) -> Pairs:
    """x [P + T, W]."""
    rows, width = x.shape
    projected = x @ memory.qkv.weight.T
    mixed = torch.zeros_like(projected)
    for t in range(rows):
        for tap in range(memory.config.convolution):
            apart = memory.causal and (t < prefix) != (t - tap < prefix)
            if t - tap >= 0 and not apart:
                mixed[t] += memory.convolution.weight[:, tap] * projected[t - tap]
    part = slice(head * memory.head_width, (head + 1) * memory.head_width)
    key, value = (silu(mixed)[:, n * width :][:, part] for n in (1, 2))
    key = torch.stack([each / each.norm() for each in key])
    kinds = ("theta", "alpha", "eta", "inner")[: 3 if memory.config.depth == 1 else 4]
    gates = {}
    for kind, name in enumerate(kinds):
        place = head * len(kinds) + kind
        weight, bias = memory.gates.linear.weight[place], memory.gates.linear.bias[place]
        gates[name] = torch.stack([(weight @ row + bias).sigmoid() for row in x])
    for name in ("theta", "inner"):
        if name in gates:
            gates[name] = gates[name] * (1 - gates["eta"])
    return Pairs(key, value, gates)


def gradient(loss: Callable[[Tensor], Tensor], weights: Tensor) -> Tensor:
    with torch.enable_grad():
        free = weights.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(free), free)[0]


def features(key: Tensor, first: Tensor) -> Tensor:
    active = silu(key @ first)
    return active / (active.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def half_square(error: Tensor) -> Tensor:
    return 0.5 * error.square().sum()


def relative(error: Tensor, value: Tensor) -> float:
    return float(error.norm() / value.norm())


class Memory:
    """The weights of one head, written by gradients."""

    def __init__(self, memory: NeuralMemory, head: int) -> None:
        self.weights = [each[head].detach().clone() for each in memory.initial]
        self.momenta = [torch.zeros_like(each) for each in self.weights]
        self.frozen = list(self.weights)
        self.stale = memory.config.gradient == "stale"

    def recall(self, key: Tensor, first: Tensor | None = None) -> Tensor:
        if len(self.weights) == 1:
            return key @ self.weights[0]
        if self.stale:
            return silu(key @ self.weights[0]) @ self.weights[1]
        return features(key, self.frozen[0] if first is None else first) @ self.weights[1]

    def gradients(self, key: Tensor, value: Tensor) -> list[Tensor]:
        """Of 1/2 |M(k) - v|^2, each layer at the weights that it is taken at."""
        if len(self.weights) == 1:
            return [gradient(lambda w: half_square(key @ w - value), self.weights[0])]
        first, second = self.frozen
        if self.stale:
            return [
                gradient(lambda w: half_square(silu(key @ w) @ second - value), first),
                gradient(lambda w: half_square(silu(key @ first) @ w - value), second),
            ]
        hidden = features(key, first)
        error = hidden @ self.weights[1] - value
        return [
            gradient(lambda w: ((features(key, w) @ second) * error).sum(), first),
            gradient(lambda w: half_square(hidden @ w - value), self.weights[1]),
        ]

    def descend(self, gradients: list[Tensor], rates: list[Any], alpha: Any, eta: Any) -> None:
        for n, (grad, rate) in enumerate(zip(gradients, rates, strict=True)):
            self.momenta[n] = eta * self.momenta[n] - rate * grad
            self.weights[n] = (1 - alpha) * self.weights[n] + self.momenta[n]


def causal_by_hand(memory: NeuralMemory, pairs: Pairs, prefix: int, head: int) -> list[float]:
    state, found = Memory(memory, head), []
    for t in range(prefix, len(pairs.key)):
        if (t - prefix) % memory.config.chunk == 0:
            state.frozen = list(state.weights)
        key, value = pairs.key[t], pairs.value[t]
        found.append(relative(state.recall(key) - value, value))
        rates = [pairs.gates["theta"][t]]
        if memory.config.depth == 2:
            inner = pairs.gates["inner"][t] / memory.config.chunk
            rates.insert(0, rates[0] if state.stale else inner)
        gradients = state.gradients(key, value)
        state.descend(gradients, rates, pairs.gates["alpha"][t], pairs.gates["eta"][t])
    return found


def set_by_hand(
    memory: NeuralMemory, pairs: Pairs, prefix: int, head: int
) -> tuple[list[float], list[float]]:
    state, rows = Memory(memory, head), len(pairs.key)
    mean = {name: sum(gate.tolist()) / rows for name, gate in pairs.gates.items()}
    cells = range(prefix, rows)

    def surprises(first: Tensor | None) -> list[float]:
        return [
            relative(state.recall(pairs.key[t], first) - pairs.value[t], pairs.value[t])
            for t in cells
        ]

    before = surprises(state.weights[0])
    start = state.weights[0]
    for _ in range(memory.config.set_steps):
        rates = [mean["theta"] / rows]
        if memory.config.depth == 2:
            # the error goes back through the second layer as it is now
            state.frozen = [start, state.weights[1]]
            rates.insert(0, mean["inner"] / rows)
        gradients = state.gradients(pairs.key, pairs.value)
        state.descend(gradients, rates, mean["alpha"], mean["eta"])
    return before, surprises(state.weights[0])


def by_hand(model: RecursiveReasoner, tokens: Tensor) -> list[dict[Place, list[float]]]:
    """All shares, and all values of the two surprises."""
    shares, first, second = (defaultdict(list) for _ in range(3))
    prefix = model.config.persistent_tokens
    for place, inputs in inputs_by_hand(model, tokens).items():
        block = model.backbone.blocks[place.layer - 1]
        gate = block.gate.linear
        once = block.memory.config.write == "first_pass"
        for x in inputs:
            for row in x[prefix:]:
                for weight, bias in zip(gate.weight, gate.bias, strict=True):
                    if place.update != FIRST:
                        shares[place].append(float((weight @ row + bias).sigmoid()))
            for head in range(block.memory.config.heads):
                if once and place.update != FIRST:
                    continue
                pairs = pairs_by_hand(block.memory, x, prefix, head)
                if block.memory.causal:
                    values = causal_by_hand(block.memory, pairs, prefix, head)
                    late = values[-(TOKENS // 4) :]
                else:
                    values, late = set_by_hand(block.memory, pairs, prefix, head)
                first[place] += values
                second[place] += late
    return [shares, first, second]


def assert_same(found: Measured, expected: dict[Place, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for place, moments in found.items():
        values = expected[place]
        assert moments.count == len(values)
        assert moments.mean == pytest.approx(statistics.fmean(values), abs=1e-10, rel=0)
        assert moments.std == pytest.approx(statistics.pstdev(values), abs=1e-10, rel=0)
        assert moments.std > 1e-6


@pytest.mark.parametrize("name", CONFIGS)
def test_gate_and_surprise_are_those_of_a_loop(name: str) -> None:
    model = reasoner(CONFIGS[name]).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        found = memory_use(model, examples(), batch_size=2, count=COUNT)
        shares, first, second = by_hand(model, examples().tokens[:COUNT])
    assert_same(found.shares, shares)
    assert_same(found.surprise, first)
    assert_same(found.later_surprise, second)
    steps, layers = CONFIGS[name].halting.max_steps, CONFIGS[name].backbone.layers
    assert len(found.shares) == 2 * layers * steps
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_write_makes_what_was_written_less_of_a_surprise() -> None:
    model = reasoner(CONFIGS["set linear"]).eval()
    with torch.no_grad():
        found = memory_use(model, examples(), count=99, batch_size=8)
    assert {moments.count for moments in found.surprise.values()} == {(COUNT + 2) * TOKENS * 2}
    for place, moments in found.surprise.items():
        assert found.later_surprise[place].mean < moments.mean


def test_a_gate_that_multiplies_has_no_share() -> None:
    config = replace(CAUSAL, backbone=replace(CAUSAL.backbone, gate="multiply"))
    with torch.no_grad():
        found = memory_use(reasoner(config), examples(), batch_size=8, count=1)
    assert not found.shares
    assert len(found.surprise) == len(found.later_surprise) == 8


def hooks(model: RecursiveReasoner) -> int:
    return sum(len(block._forward_pre_hooks) for block in memory_blocks(model))


def test_the_model_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = reasoner(GRID).eval()
    with torch.no_grad():
        memory_use(model, examples(), batch_size=8, count=1)
    assert hooks(model) == 0
    seen = []

    def fails(*given: Any) -> Tensor:
        seen.append(hooks(model))
        raise RuntimeError("no logits")

    monkeypatch.setattr(model, "logits", fails)
    with pytest.raises(RuntimeError, match="no logits"):
        memory_use(model, examples(), batch_size=8, count=1)
    assert (seen, hooks(model)) == ([2], 0)


def test_moments_add_up() -> None:
    values = torch.randn(50, dtype=torch.float64)
    parts = [Moments.of(part) for part in (values[:7], values[7:8], values[8:])]
    total = parts[0] + parts[1] + parts[2]
    assert total.count == 50
    assert total.mean == pytest.approx(float(values.mean()), abs=1e-14)
    assert total.std == pytest.approx(float(values.std(correction=0)), abs=1e-14)
