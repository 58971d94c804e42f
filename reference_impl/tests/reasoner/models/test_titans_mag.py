"""The block's parts against their formulas, and what each switch turns off."""

from dataclasses import replace

import pytest
import torch

from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.titans_mag import (
    BackboneConfig,
    MagBlock,
    MemoryGate,
    MixingBlock,
    SwiGLU,
    mixing_width,
    rms,
)

CONFIG = BackboneConfig(width=12, layers=1, heads=3, hidden_width=20, memory=MemoryConfig(heads=2))


def given(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_rms_has_no_gain() -> None:
    x = given(2, 3, 12)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(rms(x), expected)


def test_swiglu_is_its_formula() -> None:
    layer = SwiGLU(12, 20).double()
    x = given(2, 12)
    gate, up = (x @ layer.gate_up.weight.T).split(20, -1)
    expected = (gate * gate.sigmoid() * up) @ layer.out.weight.T
    torch.testing.assert_close(layer(x), expected)


def filled_gate(config: BackboneConfig) -> MemoryGate:
    torch.manual_seed(0)
    gate = MemoryGate(config).double()
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.randn_like(parameter))
    return gate


def test_the_convex_gate_shares_out_head_by_head() -> None:
    gate = filled_gate(CONFIG)
    x, attended, recalled = (given(2, 5, 12, seed=seed) for seed in range(3))
    share = (x @ gate.linear.weight.T + gate.linear.bias).sigmoid()
    expected = torch.empty_like(x)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        one = (rms(attended) * gate.attention_gain)[..., part]
        other = (rms(recalled) * gate.memory_gain)[..., part]
        weight = share[..., head : head + 1]
        expected[..., part] = weight * one + (1 - weight) * other
    torch.testing.assert_close(gate(x, attended, recalled), expected)


def test_the_convex_gate_starts_near_attention() -> None:
    gate = MemoryGate(replace(CONFIG, gate_bias=2.0)).double()
    share = gate.share(given(1, 4, 12))
    torch.testing.assert_close(share, torch.full_like(share, torch.tensor(2.0).sigmoid()))


def test_the_multiplying_gate_is_the_papers() -> None:
    gate = filled_gate(replace(CONFIG, gate="multiply"))
    x, attended, recalled = (given(2, 5, 12, seed=seed) for seed in range(3))
    expected = rms(attended) * gate.attention_gain * (rms(recalled) * gate.memory_gain).sigmoid()
    torch.testing.assert_close(gate(x, attended, recalled), expected)
    with pytest.raises(ValueError, match="shares nothing out"):
        gate.share(x)


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_its_parts(causal: bool) -> None:
    torch.manual_seed(0)
    block = MagBlock(replace(CONFIG, causal=causal, window=3 if causal else 0)).double()
    x = given(2, 7, 12)
    mixed = block.gate(x, block.attention(x, prefix=2), block.memory(x, prefix=2))
    middle = rms(x + mixed)
    expected = rms(middle + block.feed_forward(middle))
    torch.testing.assert_close(block(x, 2), expected)


def test_without_memory_a_block_is_a_transformers() -> None:
    block = MagBlock(replace(CONFIG, use_memory=False)).double()
    assert not any("memory" in name or "gate." in name for name, _ in block.named_parameters())
    x = given(2, 5, 12)
    middle = rms(x + block.attention(x))
    torch.testing.assert_close(block(x), rms(middle + block.feed_forward(middle)))


def test_mixing_works_on_positions_and_normalises_over_them() -> None:
    torch.manual_seed(0)
    block = MixingBlock(replace(CONFIG, use_memory=False, mixer="tokens"), positions=5).double()
    x = given(2, 5, 12)
    flipped = x.transpose(1, 2)
    middle = rms(flipped + block.mix_positions(flipped)).transpose(1, 2)
    torch.testing.assert_close(block(x), rms(middle + block.feed_forward(middle)))
    with pytest.raises(ValueError, match="no packed documents"):
        block(x, 0, torch.zeros(2, 5, dtype=torch.int64))


@pytest.mark.parametrize(("positions", "width"), [(97, 512), (36, 256), (96, 256), (916, 2560)])
def test_the_mixing_width_is_the_official_one(positions: int, width: int) -> None:
    assert mixing_width(positions) == width


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"mixer": "tokens"}, "use_memory True"),
        ({"mixer": "tokens", "use_memory": False, "causal": True}, "causal True"),
        ({"heads": 5}, "even multiple of model.backbone.heads, got width 12 and heads 5"),
        ({"width": 9}, "even multiple of model.backbone.heads, got width 9 and heads 3"),
        ({"window": 4}, "window is 4, but only causal attention has a window"),
        ({"memory": MemoryConfig(heads=5)}, r"\(12\) must be a multiple of .*heads \(5\)"),
        ({"memory": MemoryConfig(depth=2, gradient="stale")}, "'stale', .* for causal models"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_what_is_not_used_asks_for_nothing() -> None:
    memory = MemoryConfig(heads=5, depth=2, gradient="stale")
    without = replace(CONFIG, use_memory=False, memory=memory)
    MagBlock(without)
    mixing = replace(without, mixer="tokens", width=13)
    assert MixingBlock(mixing, positions=4)(torch.ones(1, 4, 13)).shape == (1, 4, 13)
