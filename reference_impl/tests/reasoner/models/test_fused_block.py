"""A fused block gives what the block gives, and stands in only where it may."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.layers import triton_support
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.serving import fused_block, set_launch
from reference_reasoner.reasoner.models.serving.fused_block import (
    ALIGNED,
    FusedMagBlock,
    fused,
)
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig, MagBlock

from .reasoners import CAUSAL, GRID, as_built, reasoner, tokens_of

PLAIN = BackboneConfig(
    width=16, heads=4, hidden_width=24, memory=MemoryConfig(heads=2, depth=2, features=12)
)
BARE = MemoryConfig(heads=2, depth=1, convolution=2, momentum=False, forgetting=False)
FORMS = {
    "convex": PLAIN,
    "multiply": replace(PLAIN, gate="multiply"),
    "two steps": replace(PLAIN, memory=replace(PLAIN.memory, set_steps=2)),
    "a matrix": replace(PLAIN, memory=BARE),
}


def block_of(config: BackboneConfig) -> MagBlock:
    """In float64, with gates that look at their token."""
    torch.manual_seed(0)
    block = MagBlock(config).double().eval()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return block


def rows_of(batch: int = 3, rows: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, rows, 16, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("with_layout", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_fused_block_gives_what_the_block_gives(form: str, with_layout: bool) -> None:
    block, x = block_of(FORMS[form]), rows_of()
    together = FusedMagBlock(block)
    assert together.weight.shape[0] % ALIGNED == 0
    layout = block.attention.layout_of(x, 2, None) if with_layout else None
    with torch.no_grad():
        torch.testing.assert_close(
            together(x, 2, None, layout), block(x, 2), rtol=1e-12, atol=1e-12
        )


def test_a_fused_reasoner_steps_as_the_reasoner_does() -> None:
    model, tokens = reasoner(GRID).eval(), tokens_of(3, 10)
    names = list(model.state_dict())
    own = fused(model)
    assert all(isinstance(block, FusedMagBlock) for block in own.backbone.blocks)
    with torch.no_grad():
        plain = list(model.at_depth(tokens, 3))
        for a, b in zip(own.at_depth(tokens, 3), plain, strict=True):
            torch.testing.assert_close(tuple(a), tuple(b), rtol=1e-9, atol=1e-9)
        for parameter in own.parameters():
            parameter.zero_()
        again = next(iter(model.at_depth(tokens, 1)))
    assert torch.equal(again.answer, plain[0].answer)  # the copy's weights are its own
    assert list(model.state_dict()) == names


def test_other_blocks_stay_as_they_are() -> None:
    without = replace(GRID, backbone=replace(GRID.backbone, use_memory=False))
    mixing = replace(without, backbone=replace(without.backbone, mixer="tokens"))
    for config in (CAUSAL, without, mixing):
        model = as_built(config)
        own = fused(model)
        assert [*map(type, own.backbone.blocks)] == [*map(type, model.backbone.blocks)]
    for config in (CAUSAL, without):
        with pytest.raises(ValueError, match="only the block of a grid with memory"):
            FusedMagBlock(MagBlock(config.backbone))
    documents = torch.zeros(3, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match="takes no packed documents"):
        FusedMagBlock(block_of(PLAIN))(rows_of(), 0, documents)


def test_the_kernel_is_used_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, int]] = []
    calls: list[tuple[Any, ...]] = []

    def serves(pairs: Tensor, **sizes: int) -> bool:
        asked.append(sizes)
        return True

    def recalled(pairs: Tensor, logits: Tensor, memory: Any) -> Tensor:
        calls.append((pairs.shape, logits.shape, memory))
        return pairs[..., :16]

    monkeypatch.setattr(fused_block, "set_kernel_serves", serves)
    monkeypatch.setattr(fused_block, "recalled", recalled)
    block = block_of(PLAIN)
    assert FusedMagBlock(block)(rows_of()).shape == (3, 9, 16)
    assert asked == [{"depth": 2, "width": 8, "features": 12}]
    assert calls == [((3, 9, 48), (3, 9, 8), block.memory)]


def test_a_kernel_serves_on_a_gpu_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"depth": 2, "width": 64, "features": 128}
    there: Any = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, shape=(1, 97, 2304))

    def serves(**other: Any) -> bool:
        x = SimpleNamespace(**{**vars(there), **other})
        return set_launch.set_kernel_serves(x, **sizes)  # type: ignore[arg-type]

    monkeypatch.setattr(triton_support, "kernels_run", lambda: True)
    monkeypatch.setattr(set_launch, "_runs", lambda: True)
    with torch.no_grad():
        assert serves()
        assert not serves(is_cuda=False)
        assert not serves(dtype=torch.float64)
        assert not serves(shape=(1, 129, 2304))
        for other in ({"depth": 1}, {"width": 48}, {"features": 8}, {"width": 128}):
            assert not set_launch.set_kernel_serves(there, **{**sizes, **other})
        monkeypatch.setattr(set_launch, "_runs", lambda: False)  # it gives other numbers
        assert not serves()
        monkeypatch.setattr(set_launch, "_runs", lambda: True)
        monkeypatch.setattr(triton_support, "kernels_run", lambda: False)
        assert not serves()
        monkeypatch.setattr(triton_support, "kernels_run", lambda: True)
    assert not serves()
