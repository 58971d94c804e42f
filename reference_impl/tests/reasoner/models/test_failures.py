"""Three ways in which such a model has failed unseen, planted on purpose, and what sees them.

A model of this kind was once trained whose loss fell because its attention saw the next token,
whose halting head was trained by nothing, and whose memory was a moving average. Each is
rebuilt here beside ours; the same check must fail for it and pass for ours.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.training.task import (
    Carry,
    LossOutput,
    StepKeys,
)
from reference_reasoner.engine.verification.doctor import (
    Outcome,
)
from reference_reasoner.engine.verification.model_checks import (
    checks_of_model,
    sees_the_future,
)
from reference_reasoner.reasoner.models.full_model import (
    RecursiveReasoner,
    SupervisionStep,
)
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.heads import Heads
from reference_reasoner.reasoner.models.memory.neural_memory import (
    MemoryConfig,
    NeuralMemory,
    State,
)
from reference_reasoner.reasoner.models.trm_wrapper import RecursionConfig

from ..tasks.flood_fill import (
    MODEL,
    FloodFillTask,
    flood_fill,
)
from .reasoners import (
    CAUSAL,
    VOCABULARY,
    as_built,
    shallow,
    tokens_of,
    wide,
)

# --- Attention that is not causal -------------------------------------------------------------


def next_token_loss(model: RecursiveReasoner, steps: int) -> float:
    """Mean cross-entropy of the last 20 of `steps` updates on tokens without a pattern."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(steps):
        tokens = torch.randint(0, VOCABULARY, (32, 9), generator=generator)
        logits = model(tokens).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


@pytest.mark.parametrize("causal", [True, False])
def test_attention_without_a_causal_mask_beats_chance_and_is_seen(causal: bool) -> None:
    small = wide(shallow(CAUSAL))
    backbone = replace(small.backbone, causal=causal, window=0, use_memory=False)
    model = as_built(replace(small, backbone=backbone))
    found = sees_the_future(model.eval(), (tokens_of(2, 9),))
    assert (found is None) is causal
    if not causal:
        assert "it sees the future" in str(found)
    chance = torch.log(torch.tensor(float(VOCABULARY)))
    beaten = next_token_loss(model.train(), 150) < chance - 0.05
    assert beaten is not causal


# --- A halting head without a gradient --------------------------------------------------------


class DetachedTask(FloodFillTask):
    """The halting logit comes without its graph."""

    def _supervise(
        self, model: nn.Module, batch: Batch, carry: Carry | None, depth: RecursionConfig
    ) -> SupervisionStep:
        out = super()._supervise(model, batch, carry, depth)
        return out._replace(halting=out.halting.detach())


class CountedTask(FloodFillTask):
    """The halting head pays for each step it takes: a whole number, which has no gradient."""

    def loss(
        self, model: nn.Module, batch: Batch, carry: Carry | None, keys: StepKeys
    ) -> LossOutput:
        output = super().loss(model, batch, carry, keys)
        assert output.carry is not None
        paid = 0.01 * output.carry["steps"].sum().float()
        return replace(output, terms={"answer": output.terms["answer"], "halting": paid})


def gradients_seen(task_type: type[FloodFillTask], diversity: float = 0.0) -> Outcome:
    halting = replace(MODEL.halting, diversity_weight=diversity)
    task = task_type(replace(flood_fill(), model=replace(MODEL, halting=halting)))
    (item,) = (item for item in checks_of_model(task) if item.name == "gradients")
    return item.outcome()


@pytest.mark.parametrize("task_type", [DetachedTask, CountedTask])
def test_a_halting_head_that_cannot_learn_is_seen(task_type: type[FloodFillTask]) -> None:
    outcome = gradients_seen(task_type)
    assert outcome.state == "failed"
    assert outcome.text == "no gradient reaches halting.linear.weight, halting.linear.bias"


@pytest.mark.parametrize("diversity", [0.0, 0.05])
def test_our_halting_head_can_learn(diversity: float) -> None:
    assert gradients_seen(FloodFillTask, diversity).state == "passed"


# --- A memory that learns nothing -------------------------------------------------------------

WIDTH, WRITES = 16, 64
LINEAR = MemoryConfig(chunk=8)


def two_tokens() -> Tensor:
    """Two tokens in turn, [1, WRITES, WIDTH]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 2, WIDTH, generator=generator).repeat(1, WRITES // 2, 1)


def layer(config: MemoryConfig) -> NeuralMemory:
    torch.manual_seed(0)
    return NeuralMemory(WIDTH, replace(config, convolution=1), causal=True)


def heads_of(memory: NeuralMemory) -> Heads:
    """What the memory makes of the tokens, each [1, WRITES, WIDTH]."""
    return memory.heads(memory.qkv(two_tokens()))


def surprises(memory: NeuralMemory, state: State) -> Tensor:
    """||M(k) - v|| of both tokens, [2]."""
    _, key, value = (each[:, :2] for each in heads_of(memory))
    return (memory.read(key, state) - value).norm(dim=-1)[0]


def before_and_after(memory: NeuralMemory) -> tuple[Tensor, Tensor]:
    """The surprises before the first write and after the last."""
    with torch.no_grad():
        _, cache = memory.prefill(two_tokens())
        return surprises(memory, memory.initial_state(1)), surprises(memory, cache.state)


def learned(before: Tensor, after: Tensor) -> bool:
    """Whether both tokens surprise by at most a tenth of what they did."""
    return bool((after <= 0.1 * before).all())


@pytest.mark.parametrize("config", [LINEAR, replace(LINEAR, depth=2)], ids=["linear", "deep"])
def test_our_memory_learns_what_it_sees(config: MemoryConfig) -> None:
    assert learned(*before_and_after(layer(config)))


def test_a_memory_that_is_not_written_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = layer(LINEAR)
    gates = memory.gates.forward

    def at_rate_zero(x: Tensor) -> Gates:
        found = gates(x)
        return found._replace(rate=torch.zeros_like(found.rate))

    monkeypatch.setattr(memory.gates, "forward", at_rate_zero)
    assert not learned(*before_and_after(memory))


def test_a_moving_average_is_seen() -> None:
    """It tends to the mean of what it was given, and gives that for every key."""
    with torch.no_grad():
        values = heads_of(layer(LINEAR)).value[0]
    average = torch.zeros(WIDTH)
    for value in values:
        average = 0.9 * average + 0.1 * value
    before, after = values[:2].norm(dim=-1), (average - values[:2]).norm(dim=-1)
    assert (after < before).all()
    assert not learned(before, after)


# --- States that keep their graph -------------------------------------------------------------


def test_what_is_carried_has_no_graph_and_keeps_its_minimum() -> None:
    """Or memory would grow from step to step, and gradients run back through all of them."""
    task = FloodFillTask(flood_fill())
    torch.manual_seed(0)
    model = task.build_model()
    examples = [task.datasets().train.example(index, None) for index in range(8)]
    candidates = {name: torch.stack([each[name] for each in examples]) for name in examples[0]}
    batch, carry = task.begin(None, candidates)
    carried = task.loss(model, batch, carry, StepKeys(seed=0, step=1, micro=0, rank=0)).carry
    assert carried is not None
    assert not any(value.requires_grad for value in carried.values())
    stays = {**carried, "halted": torch.zeros(8, dtype=torch.bool)}
    _, later = task.begin(stays, candidates)
    assert later is not None
    assert torch.equal(later["minimum"], carried["minimum"])
