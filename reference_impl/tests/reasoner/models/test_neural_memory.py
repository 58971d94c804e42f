"""The memory's layer: projections, convolution, gates, documents, heads and steps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.reasoner.models.layers.document_layout import DocumentLayout
from reference_reasoner.reasoner.models.layers.short_convolution import ShortConvolution
from reference_reasoner.reasoner.models.memory.cpu.heads_by_block import BLOCK, HeadsByBlock
from reference_reasoner.reasoner.models.memory.neural_memory import (
    MemoryConfig,
    NeuralMemory,
)
from reference_reasoner.reasoner.models.memory.state import LinearState
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig

WIDTH = 8
LINEAR = MemoryConfig(heads=2, chunk=4, convolution=3)
DEEP = replace(LINEAR, depth=2, features=6)
STALE = replace(DEEP, gradient="stale")
FORMS = {"linear": LINEAR, "deep": DEEP, "stale": STALE}


def memory(config: MemoryConfig, *, causal: bool = True, seed: int = 0) -> NeuralMemory:
    """In float64, with gates that look at their token."""
    torch.manual_seed(seed)
    layer = NeuralMemory(WIDTH, config, causal=causal).double()
    with torch.no_grad():
        layer.gates.linear.weight.add_(torch.randn_like(layer.gates.linear.weight))
    return layer


def given(batch: int, tokens: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, WIDTH, generator=generator, dtype=torch.float64)


def by_hand(layer: NeuralMemory, x: Tensor) -> Tensor:
    """The linear causal layer, one row, one head and one token after the other."""
    config, width = layer.config, layer.head_width
    out = torch.zeros_like(x)
    for row in range(len(x)):
        projected = x[row] @ layer.qkv.weight.T
        mixed = torch.zeros_like(projected)
        for t in range(len(projected)):
            for tap in range(config.convolution):
                if t - tap >= 0:
                    mixed[t] += layer.convolution.weight[:, tap] * projected[t - tap]
        q, k, v = (mixed * mixed.sigmoid()).split(WIDTH, -1)
        for head in range(config.heads):
            part = slice(head * width, (head + 1) * width)
            weights = layer.initial[0][head].clone()
            momentum = torch.zeros_like(weights)
            for t in range(len(projected)):
                raw = layer.gates.linear.weight @ x[row, t] + layer.gates.linear.bias
                theta, alpha, eta = raw[3 * head : 3 * head + 3].sigmoid()
                key = k[t, part] / k[t, part].norm()
                error = key @ weights - v[t, part]
                momentum = eta * momentum - (1 - eta) * theta * torch.outer(key, error)
                weights = (1 - alpha) * weights + momentum
                read = (q[t, part] / q[t, part].norm()) @ weights
                out[row, t, part] = read / (read.square().mean() + 1e-5).sqrt()
    return (out * layer.norm) @ layer.out.weight.T


def test_the_layer_is_the_papers_loop() -> None:
    layer = memory(LINEAR)
    x = given(2, 9)
    torch.testing.assert_close(layer(x), by_hand(layer, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("taps", [1, 3])
@pytest.mark.parametrize("tokens", [1, 2, BLOCK, 2 * BLOCK + 3])
def test_pairs_are_the_same_block_by_block(
    tokens: int, taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients, across the borders of blocks too, and of projections near zero."""
    layer = memory(replace(LINEAR, convolution=taps))
    projected = torch.randn(2, tokens, 3 * WIDTH, dtype=torch.float64)
    projected[:, : tokens // 2, :WIDTH] = 0
    projected[:, 0] *= 1e-14  # shorter than what a length is at least divided by
    projected.requires_grad_()
    weights = [projected, layer.convolution.weight]
    found = []
    for whole in (False, True):
        if whole:
            monkeypatch.setattr(HeadsByBlock, "serves", lambda x: False)
        pairs = layer.heads(projected)
        total = sum((x * (i + 1) * torch.cos(x)).sum() for i, x in enumerate(pairs))
        found.append([*pairs, *torch.autograd.grad(total, weights)])
    assert len(found[0]) == 5
    for block, plain in zip(*found, strict=True):
        torch.testing.assert_close(block, plain, rtol=1e-10, atol=1e-10)


def test_pairs_of_packed_or_half_precision_rows_are_made_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = memory(LINEAR).float()
    monkeypatch.setattr(HeadsByBlock, "apply", lambda *_: pytest.fail("made block by block"))
    projected = torch.randn(2, 4, 3 * WIDTH)
    layer.heads(projected, torch.zeros(2, 4, dtype=torch.int64))
    layer.heads(projected.bfloat16())
    assert not HeadsByBlock.serves(projected.to("meta"))


@pytest.mark.parametrize("form", FORMS)
def test_tokens_know_nothing_of_later_ones(form: str) -> None:
    layer = memory(FORMS[form])
    x = given(1, 9).requires_grad_()
    out = layer(x, prefix=2)
    for token in range(7):
        (gradient,) = torch.autograd.grad(out[:, 2 + token].sum(), x, retain_graph=True)
        assert not gradient[:, 3 + token :].any()
        assert not gradient[:, :2].any()
    (gradient,) = torch.autograd.grad(out[:, :2].sum(), x)
    assert not gradient[:, 2:].any()


@pytest.mark.parametrize("form", FORMS)
def test_a_document_finds_nothing_of_the_ones_before_it(form: str) -> None:
    layer = memory(FORMS[form])
    lengths = [3, 6, 1, 4, 5]
    x = given(2, sum(lengths)).requires_grad_()
    documents = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths)).expand(2, -1)
    packed = layer(x, documents=documents)
    start = 0
    for length in lengths:
        alone_in = x[:, start : start + length].detach().requires_grad_()
        alone = layer(alone_in)
        part = packed[:, start : start + length]
        torch.testing.assert_close(part, alone, rtol=0, atol=1e-10)
        weight = torch.randn_like(alone)
        (whole,) = torch.autograd.grad((part * weight).sum(), x, retain_graph=True)
        (own,) = torch.autograd.grad((alone * weight).sum(), alone_in)
        expected = torch.zeros_like(whole)
        expected[:, start : start + length] = own
        torch.testing.assert_close(whole, expected, rtol=0, atol=1e-10)
        start += length


def test_rows_may_be_packed_differently() -> None:
    layer = memory(DEEP)
    x = given(2, 9)
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1, 2]])
    both = layer(x, documents=documents)
    for row in range(2):
        alone = layer(x[row : row + 1], documents=documents[row : row + 1])
        torch.testing.assert_close(both[row : row + 1], alone, rtol=0, atol=1e-10)


def test_a_layout_begins_each_document_with_a_chunk() -> None:
    layout = DocumentLayout.of(torch.tensor([[0, 0, 0, 0, 0, 1, 2, 2]]), 4)
    assert layout.slots.tolist() == [[0, 1, 2, 3, 4, 8, 12, 13]]
    assert layout.resets.tolist() == [[True, False, True, True]]
    x = torch.arange(1.0, 9.0)[None]
    assert layout.spread(x)[0, [5, 6, 7, 9]].tolist() == [0, 0, 0, 0]
    assert torch.equal(layout.gather(layout.spread(x)), x)


@pytest.mark.parametrize("form", FORMS)
def test_steps_go_on_where_a_parallel_pass_ended(form: str) -> None:
    layer = memory(FORMS[form])
    x = given(2, 3 + 10)
    whole = layer(x, prefix=3)
    for tokens in range(11):
        out, cache = layer.prefill(x[:, : 3 + tokens], prefix=3)
        torch.testing.assert_close(out, whole[:, : 3 + tokens], rtol=0, atol=1e-10)
        for position in range(tokens, 10):
            one, cache = layer.step(x[:, 3 + position, None], cache, position)
            torch.testing.assert_close(one, whole[:, 3 + position, None], rtol=0, atol=1e-10)


def test_steps_without_a_convolution() -> None:
    layer = memory(replace(LINEAR, convolution=1))
    x = given(1, 6)
    _, cache = layer.prefill(x[:, :3])
    assert cache.tail.shape == (1, 0, 3 * WIDTH)
    one, _ = layer.step(x[:, 3:4], cache, 3)
    torch.testing.assert_close(one, layer(x)[:, 3:4], rtol=0, atol=1e-10)


@pytest.mark.parametrize("config", [LINEAR, DEEP], ids=["linear", "deep"])
def test_a_set_has_no_order(config: MemoryConfig) -> None:
    layer = memory(replace(config, convolution=1), causal=False)
    x = given(2, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]), rtol=0, atol=1e-10)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[:, 0].square().sum(), x)
    assert gradient.abs().sum(-1).all()


def test_a_set_takes_no_documents_and_no_steps() -> None:
    layer = memory(LINEAR, causal=False)
    with pytest.raises(ValueError, match="no packed documents"):
        layer(given(1, 4), documents=torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="token by token"):
        layer.prefill(given(1, 4))


def test_switches_turn_their_gate_off() -> None:
    layer = memory(replace(LINEAR, momentum=False, forgetting=False))
    gates = layer.gates(given(1, 5))
    assert (gates.log_momentum == -torch.inf).all()
    assert (gates.log_keep == 0).all()
    out = layer(given(1, 5).requires_grad_())
    out.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_gates_start_where_the_specification_wants_them() -> None:
    layer = NeuralMemory(WIDTH, DEEP, causal=True).double()
    gates = layer.gates(given(1, 3))
    eta = torch.tensor(0.5, dtype=torch.float64).sigmoid()
    expected = {
        "rate": (1 - eta) * 0.5,
        "log_keep": (1 - torch.tensor(-5.0, dtype=torch.float64).sigmoid()).log(),
        "log_momentum": eta.log(),
        "inner_rate": (1 - eta) * torch.tensor(-4.0, dtype=torch.float64).sigmoid(),
    }
    for name, value in expected.items():
        found = getattr(gates, name)
        torch.testing.assert_close(found, value.expand_as(found))


def test_the_state_is_a_value() -> None:
    layer = memory(DEEP)
    assert dict(layer.named_buffers()) == {}
    first = layer(given(1, 5))
    layer(given(1, 5, seed=9))
    assert torch.equal(layer(given(1, 5)), first)
    state = memory(LINEAR).initial_state(3)
    assert isinstance(state, LinearState)
    assert state.weights.shape == (6, 4, 4)
    assert torch.equal(state.weights[:2], state.weights[2:4])


def test_bfloat16_input_is_computed_in_float32_inside() -> None:
    torch.manual_seed(0)
    layer = NeuralMemory(WIDTH, DEEP, causal=True)
    x = given(2, 9).float()
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = layer(x)
    assert rough.dtype == torch.bfloat16 or rough.dtype == torch.float32
    assert (rough.float() - exact).norm() / exact.norm() < 3e-2


def test_thousands_of_equal_tokens_stay_finite() -> None:
    torch.manual_seed(0)
    for config in (replace(LINEAR, chunk=128), replace(DEEP, chunk=128)):
        layer = NeuralMemory(WIDTH, config, causal=True)
        x = torch.randn(1, 1, WIDTH).expand(1, 8192, WIDTH).clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = layer(x)
        out.float().square().mean().backward()
        assert out.isfinite().all()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_the_convolution_is_pytorchs() -> None:
    torch.manual_seed(0)
    layer = ShortConvolution(5, 4).double()
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    expected = nn.functional.conv1d(
        nn.functional.pad(x.transpose(1, 2), (3, 0)), layer.weight.flip(1)[:, None], groups=5
    ).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected)
    short = x[:, :2]
    torch.testing.assert_close(layer(short), expected[:, :2])
    tail = layer.tail(short)
    one, _ = layer.step(x[:, 2:3], tail)
    torch.testing.assert_close(one, expected[:, 2:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 0}, "memory.heads must be at least 1, got 0"),
        ({"depth": 3}, "depth must be 1 or 2, got 3"),
        ({"gradient": "stale"}, "got depth 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LINEAR, **changes)


def test_layers_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(ValueError, match=r"width \(8\) must be a multiple of .*heads \(3\)"):
        BackboneConfig(width=WIDTH, memory=MemoryConfig(heads=3))
    with pytest.raises(ValueError, match="form for causal models"):
        BackboneConfig(width=WIDTH, memory=STALE)
    with pytest.raises(ValueError, match="convolution must be at least 1, got 0"):
        ShortConvolution(4, 0)
