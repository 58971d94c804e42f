"""The whole model: blind to the future, to other rows and other documents, and of exact size."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.reasoner.models.act_head import HaltingConfig
from reference_reasoner.reasoner.models.full_model import (
    ReasonerConfig,
    RecursiveReasoner,
)
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig
from reference_reasoner.reasoner.models.trm_wrapper import RecursionConfig

from .reasoners import (
    CAUSAL,
    CAUSAL_FORMS,
    DEEP,
    FIRST_PASS,
    GRID,
    VOCABULARY,
    as_built,
    reasoner,
    shallow,
    tokens_of,
    wide,
)

FORMS = CAUSAL_FORMS | FIRST_PASS
KINDS = {
    "causal": CAUSAL,
    "deep": DEEP,
    "deep_once": FIRST_PASS["deep_once"],
    "linear_once": FIRST_PASS["linear_once"],
    "grid": GRID,
}


def by_embedding(model: RecursiveReasoner, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(embedded tokens with a gradient, logits after all supervision steps)."""
    embedded: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if not embedded:
            embedded.append(out.detach().requires_grad_(True))
        return embedded[0]

    handle = model.embedding.register_forward_hook(keep)
    steps = list(model.at_depth(tokens, model.config.halting.max_steps))
    handle.remove()
    return embedded[0], steps[-1].logits


@pytest.mark.parametrize("form", FORMS)
def test_no_output_depends_on_a_later_token_by_value(form: str) -> None:
    model = reasoner(FORMS[form])
    one, other = tokens_of(2, 10), tokens_of(2, 10, seed=2)
    for position in range(9):
        mixed = torch.where(torch.arange(10) > position, other, one)
        for before, after in zip(model.at_depth(one, 2), model.at_depth(mixed, 2), strict=True):
            apart = (before.logits - after.logits).abs()
            assert apart[:, : position + 1].max() < 1e-12
            assert apart[:, position + 1 :].max() > 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_no_output_depends_on_a_later_token_by_gradient(form: str) -> None:
    model = reasoner(FORMS[form])
    embedded, logits = by_embedding(model, tokens_of(2, 10))
    for position in range(10):
        (gradient,) = torch.autograd.grad(
            logits[:, position].square().sum(), embedded, retain_graph=True
        )
        assert not gradient[:, position + 1 :].any()
        assert gradient[:, position].any()


def test_a_grid_sees_every_token() -> None:
    model = reasoner(GRID)
    embedded, logits = by_embedding(model, tokens_of(1, 10))
    (gradient,) = torch.autograd.grad(logits[:, 0].square().sum(), embedded)
    assert gradient.abs().sum(-1).all()


def test_memory_reaches_beyond_the_window() -> None:
    shallow = replace(
        CAUSAL,
        backbone=replace(CAUSAL.backbone, layers=1),
        recursion=RecursionConfig(latent_steps=1, recursions=1),
        halting=HaltingConfig(max_steps=1),
    )
    for use_memory in (True, False):
        backbone = replace(shallow.backbone, use_memory=use_memory)
        model = reasoner(replace(shallow, backbone=backbone))
        embedded, logits = by_embedding(model, tokens_of(1, 10))
        (gradient,) = torch.autograd.grad(logits[:, -1].square().sum(), embedded)
        # two applications of a window of 4 reach 6 tokens back
        assert bool(gradient[:, :3].any()) is use_memory


@pytest.mark.parametrize("form", FORMS)
def test_a_packed_document_equals_the_document_alone(form: str) -> None:
    model = reasoner(FORMS[form])
    lengths = [3, 9, 1, 5]
    tokens = tokens_of(1, sum(lengths))
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    packed_in, packed = embedded_step(model, tokens, documents)
    start = 0
    for length in lengths:
        alone_in, alone = embedded_step(model, tokens[:, start : start + length], None)
        part = packed[:, start : start + length]
        torch.testing.assert_close(part, alone, rtol=0, atol=1e-10)
        weight = torch.randn_like(alone)
        (packed_gradient,) = torch.autograd.grad(
            (part * weight).sum(), packed_in, retain_graph=True
        )
        (alone_gradient,) = torch.autograd.grad((alone * weight).sum(), alone_in)
        expected = torch.zeros_like(packed_gradient)
        expected[:, start : start + length] = alone_gradient
        torch.testing.assert_close(packed_gradient, expected, rtol=0, atol=1e-10)
        start += length


def embedded_step(
    model: RecursiveReasoner, tokens: Tensor, documents: Tensor | None
) -> tuple[Tensor, Tensor]:
    """(embedded tokens, logits) of one supervision step."""
    embedded: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        embedded.append(out.detach().requires_grad_(True))
        return embedded[-1]

    handle = model.embedding.register_forward_hook(keep)
    step = model(tokens, documents=documents)
    handle.remove()
    return embedded[0], step.logits


@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_an_item_alone_equals_it_in_a_batch(config: ReasonerConfig, kind: torch.dtype) -> None:
    model = as_built(wide(config)).to(kind)
    tokens = tokens_of(5, 10)
    together = list(model.at_depth(tokens, 2))[-1]
    for row in range(5):
        alone = list(model.at_depth(tokens[row : row + 1], 2))[-1]
        tolerance = 1e-10 if kind == torch.float64 else 1e-5
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other[row : row + 1], rtol=0, atol=tolerance)


def test_two_calls_are_equal_and_leave_nothing_behind() -> None:
    model = reasoner(DEEP)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (model(tokens_of(2, 10)).logits for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name for name, _ in model.named_buffers()} == {"initial.answer", "initial.latent"}


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_other_precisions_are_close(config: ReasonerConfig) -> None:
    model = as_built(wide(config))
    tokens = tokens_of(4, 10)
    with torch.no_grad():
        single = model(tokens).logits
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(tokens).logits
        double = model.double()(tokens).logits
    assert half.dtype == torch.bfloat16
    assert (half.double() - double).norm() / double.norm() < 2e-2
    assert (single.double() - double).norm() / double.norm() < 1e-5


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_parameter_gets_a_gradient(config: ReasonerConfig) -> None:
    model = reasoner(config)
    step = model(tokens_of(4, 10))
    (step.logits.square().sum() + step.halting.square().sum()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


def test_gradient_goes_through_the_last_recursion_only() -> None:
    model = reasoner(GRID)
    calls: list[bool] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    first, second = list(model.at_depth(tokens_of(1, 10), 2))
    recursion = model.config.recursion
    one = [False] * (recursion.latent_steps + 1) + [True] * (recursion.latent_steps + 1)
    assert calls == one * 2
    assert first.answer.grad_fn is not None
    assert not first.states.answer.requires_grad
    gradients = torch.autograd.grad(second.logits.sum(), [first.answer], allow_unused=True)
    assert gradients == (None,)


def test_solving_stops_rows_on_their_own_and_equals_full_depth_there() -> None:
    model = reasoner(wide(GRID))
    tokens = tokens_of(12, 10)
    with torch.no_grad():
        steps = list(model.at_depth(tokens, 4))
        sure = torch.stack([step.halting for step in steps]).sigmoid()
        middle = sure[:-1].flatten().sort().values[17:19]
        threshold = float(middle.mean())  # of no row exactly
        halted = model.solve(tokens, threshold=threshold, max_steps=4)
    assert len(set(halted.steps.tolist())) > 1
    for row, taken in enumerate(halted.steps.tolist()):
        torch.testing.assert_close(
            halted.output[row], steps[taken - 1].logits[row], rtol=0, atol=1e-10
        )
        assert (sure[: taken - 1, row] <= threshold).all()
        assert taken == 4 or sure[taken - 1, row] > threshold
    for compaction in ("powers_of_two", "none"):
        with torch.no_grad():
            filled = model.solve(tokens, threshold=threshold, max_steps=4, compaction=compaction)
        for one, other in zip(halted, filled, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_a_causal_model_does_not_stop_early() -> None:
    with pytest.raises(ValueError, match="fixed depth"):
        reasoner(CAUSAL).solve(tokens_of(1, 4), threshold=0.5, max_steps=2)


def test_compiled_equals_eager() -> None:
    model = reasoner(shallow(GRID))
    tokens = tokens_of(2, 10)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for one, other in zip(compiled(tokens), model(tokens), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_tokens_without_a_pattern_cannot_be_predicted() -> None:
    model = as_built(shallow(CAUSAL))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(3)
    losses = []
    for _ in range(200):
        tokens = torch.randint(0, VOCABULARY, (32, 9), generator=generator)
        logits = model(tokens).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    chance = torch.log(torch.tensor(float(VOCABULARY)))
    assert sum(losses[-50:]) / 50 >= chance - 0.05


def test_eight_examples_can_be_learned_by_heart() -> None:
    model = as_built(wide(shallow(GRID)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    tokens, wanted = tokens_of(8, 10), tokens_of(8, 10, seed=5)
    for _ in range(200):
        step = model(tokens)
        loss = nn.functional.cross_entropy(step.logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if torch.equal(step.logits.argmax(-1), wanted):
            return
    pytest.fail(f"loss {float(loss.detach()):.3f} after 200 steps")


def test_the_embedding_can_be_tied_to_the_head() -> None:
    model = reasoner(replace(CAUSAL, tie_embeddings=True))
    untied = reasoner(CAUSAL)
    counts = [sum(p.numel() for p in each.parameters()) for each in (model, untied)]
    assert counts[1] - counts[0] == VOCABULARY * 16
    answer = torch.randn(1, 2, 16, dtype=torch.float64)
    expected = answer @ model.embedding.weight.T
    torch.testing.assert_close(model.logits(answer), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial_std": -1.0}, "initial_std must be at least 0, got -1"),
        ({"persistent_tokens": -1}, "persistent_tokens must be at least 0, got -1"),
        ({"halting": HaltingConfig(pool="first")}, "causal True"),
        (
            {
                "halting": HaltingConfig(pool="first"),
                "persistent_tokens": 0,
                "backbone": BackboneConfig(use_memory=False),
            },
            "got 0 of them",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CAUSAL, **changes)
