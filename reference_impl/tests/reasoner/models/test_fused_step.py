"""A fused step of a causal block is its step, by fewer products."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reference_reasoner.reasoner.models.block_cache import BlockCache
from reference_reasoner.reasoner.models.full_model import ReasonerConfig, RecursiveReasoner
from reference_reasoner.reasoner.models.layers import triton_support
from reference_reasoner.reasoner.models.serving import fused_step
from reference_reasoner.reasoner.models.serving.decoding import causal_blocks, prefill, step
from reference_reasoner.reasoner.models.serving.fused_step import FusedStep, fused_steps
from reference_reasoner.reasoner.models.serving.graphed_decoding import GraphedDecoder

from .reasoners import CAUSAL, DEEP, FIRST_PASS, GRID, STALE, reasoner, shallow, tokens_of
from .step_kernels import attend_next, recall_next

LENGTH = 9
PRODUCTS = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
}


def memory(config: ReasonerConfig, **changes: Any) -> ReasonerConfig:
    backbone = config.backbone
    return replace(config, backbone=replace(backbone, memory=replace(backbone.memory, **changes)))


CONFIGS = {
    "linear": CAUSAL,
    "deep": DEEP,
    "stale": STALE,
    "multiplying": replace(CAUSAL, backbone=replace(CAUSAL.backbone, gate="multiply")),
    "never_forgets": memory(DEEP, momentum=False, forgetting=False),
    "without_window": replace(DEEP, backbone=replace(DEEP.backbone, window=0)),
    **FIRST_PASS,
}


def logits(model: RecursiveReasoner, tokens: Tensor, given: int, **options: Any) -> Tensor:
    """Of each token after `given` ones, [B, LENGTH - given, V]."""
    _, state = prefill(model, tokens[:, :given], capacity=LENGTH)
    found = []
    for position in range(given, LENGTH):
        out, state = step(model, tokens[:, position], state, **options)
        found.append(out)
    return torch.stack(found, 1)


@pytest.mark.parametrize("given", [0, 4])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_gives_what_a_step_gives(config: ReasonerConfig, given: int) -> None:
    model, tokens = reasoner(config).eval(), tokens_of(2, LENGTH)
    expected = logits(model, tokens, given)
    found = logits(model, tokens, given, block_step=fused_steps(model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_in_bfloat16_it_is_as_close_as_a_step() -> None:
    exact, tokens = reasoner(shallow(FIRST_PASS["deep_once"])).eval(), tokens_of(2, LENGTH)
    expected = logits(exact, tokens, 3)
    model = exact.to(torch.bfloat16)
    off = {
        name: (logits(model, tokens, 3, **how).double() - expected).norm() / expected.norm()
        for name, how in {"step": {}, "fused": {"block_step": fused_steps(model)}}.items()
    }
    assert off["step"] < 0.2
    assert off["fused"] < 1.5 * off["step"]


class Products(TorchDispatchMode):
    """How many products of matrices are asked for."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func in PRODUCTS
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("form", "fewer"), [("linear", 4), ("linear_once", 4)])
def test_a_block_asks_for_fewer_products(form: str, fewer: int) -> None:
    """One in place of four or, where the memory is asked alone, of three; one in place of two."""
    model, tokens = reasoner(CONFIGS[form]).eval(), tokens_of(1, 4)
    counts = []
    for how in ({}, {"block_step": fused_steps(model)}):
        _, state = prefill(model, tokens)
        with Products() as products:
            step(model, tokens[:, 0], state, **how)
        counts.append(products.count)
    config, blocks = model.config, len(causal_blocks(model))
    recursions = config.halting.max_steps * config.recursion.recursions * blocks
    writing = recursions * (1 if form == "linear_once" else config.recursion.latent_steps + 1)
    asking = recursions * (config.recursion.latent_steps + 1) - writing
    assert counts[0] - counts[1] == fewer * writing + (fewer - 1) * asking


def test_compiled_it_is_compiled_once_a_kind_and_recorded() -> None:
    compiled = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        compiled.append(graph)
        return graph.forward

    torch.compiler.reset()
    model, tokens = reasoner(FIRST_PASS["deep_once"]).eval(), tokens_of(2, LENGTH)
    expected = logits(model, tokens, 3)
    own = fused_steps(model, torch.compile(FusedStep.step, dynamic=False, backend=backend))
    _, state = prefill(model, tokens[:, :3], capacity=LENGTH)
    decoder = GraphedDecoder(model, state, capture=lambda run: run, block_step=own)
    for position in range(3, LENGTH):
        one = decoder.step(tokens[:, position])
        torch.testing.assert_close(one, expected[:, position - 3], rtol=0, atol=1e-10)
    assert len(compiled) == 2  # a pass that writes, and those that read


@pytest.mark.parametrize("config", [CAUSAL, DEEP, FIRST_PASS["deep_once"]])
def test_by_kernels_it_gives_the_same(
    config: ReasonerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk of the deep memory begins where the host says so, once for all passes."""
    model, tokens = reasoner(config).eval(), tokens_of(2, LENGTH)
    expected = logits(model, tokens, 2)
    calls: list[Any] = []

    def attending(*given: Any) -> None:
        calls.append(given)
        attend_next(*given)

    fake = SimpleNamespace(attend_next=attending, recall_next=recall_next)
    name = "reference_reasoner.reasoner.models.serving.fused_step_launch"
    monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr(fused_step, "step_kernels_serve", lambda *_, **__: True)
    found = logits(model, tokens, 2, block_step=fused_steps(model))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert len(calls) == (LENGTH - 2) * len(prefill(model, tokens)[1].caches)


def test_kernels_serve_on_a_gpu_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    there: Any = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    keys, exact = torch.zeros(1, 8, 528, 64, dtype=torch.bfloat16), {"exact": True}
    deep = [torch.zeros(8, 64, 128), torch.zeros(8, 64, 128), torch.zeros(8, 128, 64)] * 2
    linear = [torch.zeros(8, 64, 64)] * 2
    monkeypatch.setattr(triton_support, "kernels_run", lambda: True)
    monkeypatch.setattr(fused_step, "_runs", lambda: True)
    serve = fused_step.step_kernels_serve
    with torch.no_grad():
        assert serve(there, keys, deep, **exact)
        assert serve(there, keys, linear, exact=False)  # it has no other form
        assert not serve(there, keys, deep, exact=False)
        assert not serve(there, keys.float(), deep, **exact)
        assert not serve(there, keys[..., :48].contiguous(), deep, **exact)
        assert not serve(there, keys.mT, deep, **exact)
        assert not serve(there, keys, [each.mT for each in deep], **exact)
        assert not serve(there, keys, [each.double() for each in deep], **exact)
        assert not serve(there, keys, [torch.zeros(8, 128, 128)] * 2, **exact)
        assert not serve(torch.zeros(1, dtype=torch.bfloat16), keys, deep, **exact)
    assert not serve(there, keys, deep, **exact)
    monkeypatch.setattr(fused_step, "_runs", lambda: False)  # they give other numbers
    with torch.no_grad():
        assert not serve(there, keys, deep, **exact)


def test_the_model_is_left_as_it_is_and_later_weights_do_not_count() -> None:
    model, tokens = reasoner(DEEP).eval(), tokens_of(1, LENGTH)
    names, expected = list(model.state_dict()), logits(model, tokens, 3)
    own = fused_steps(model)
    assert list(model.state_dict()) == names
    with torch.no_grad():
        for block in causal_blocks(model):
            block.attention.qkv.weight.zero_()
    assert not torch.allclose(logits(model, tokens, 3), expected)
    _, state = prefill(reasoner(DEEP), tokens[:, :3])
    found, _ = step(model, tokens[:, 3], state, block_step=own)
    torch.testing.assert_close(found, expected[:, 0], rtol=0, atol=1e-10)


def test_held_wrong() -> None:
    without = replace(CAUSAL, backbone=replace(CAUSAL.backbone, use_memory=False))
    for config in (without, GRID):
        block: Any = reasoner(config).backbone.blocks[0]
        with pytest.raises(ValueError, match="only the step of a causal block with memory"):
            FusedStep(block)
    model = reasoner(CAUSAL)
    _, state = prefill(model, tokens_of(1, 3))
    cache = BlockCache(state.caches[0].attention, None)
    block = causal_blocks(model)[0]
    place = block.attention.next_place(cache.attention)
    with pytest.raises(ValueError, match="the cache is of a block without memory"):
        FusedStep(block).step(torch.zeros(1, 1, 16, dtype=torch.float64), cache, None, place)
