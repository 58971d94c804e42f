"""Attention equals its rules written out: who sees whom, positions, and token by token."""

import copy
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reference_reasoner.reasoner.models.act_head import HaltingConfig
from reference_reasoner.reasoner.models.attention import window_attention as attend_module
from reference_reasoner.reasoner.models.attention.attention import SelfAttention
from reference_reasoner.reasoner.models.attention.rotary import rotary_angles, turned
from reference_reasoner.reasoner.models.attention.window_attention import attend
from reference_reasoner.reasoner.models.attention.window_mask import sight
from reference_reasoner.reasoner.models.full_model import ReasonerConfig, RecursiveReasoner
from reference_reasoner.reasoner.models.serving.decoding import prefill
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig

from .loaded_anew import loaded_anew
from .naive_attention import (
    naive_attend,
    naive_rotary,
    naive_self_attention,
    sees,
)

BATCH, HEADS, HEAD_WIDTH, WIDTH = 2, 2, 6, 12
RULES: dict[str, dict[str, Any]] = {
    "all": {"causal": False},
    "causal": {"causal": True},
    "window 1": {"causal": True, "window": 1},
    "window 3": {"causal": True, "window": 3},
    "window 16": {"causal": True, "window": 16},
}
each_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
each_prefix = pytest.mark.parametrize("prefix", [0, 4])
each_packing = pytest.mark.parametrize("with_documents", [False, True], ids=["one", "packed"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def qkv_of(rows: int, *, batch: int = BATCH, width: int = HEAD_WIDTH) -> list[Tensor]:
    return [normal(batch, HEADS, rows, width, seed=seed).requires_grad_() for seed in range(3)]


def packed(tokens: int) -> Tensor:
    """Two rows of documents: many short ones, and one short one before a long one."""
    index = torch.arange(tokens)
    return torch.stack([index // 4 * 3, (index >= 2).long()])


def module(*, window: int = 0, causal: bool = True, base: float = 10000.0) -> SelfAttention:
    torch.manual_seed(0)
    attention = SelfAttention(WIDTH, heads=HEADS, window=window, causal=causal, rotary_base=base)
    return attention.double()


def assert_same(actual: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def with_gradients(out: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The output, and the gradients of a fixed random projection of it."""
    projected = (out * normal(*out.shape, seed=9).to(out)).sum()
    return [out, *torch.autograd.grad(projected, leaves, retain_graph=True)]


@each_packing
@pytest.mark.parametrize(
    ("prefix", "tokens"),
    [(0, 1), (0, 3), (0, 16), (0, 21), (4, 0), (4, 1), (4, 3), (4, 6), (4, 16), (4, 21)],
)
@each_rule
def test_values_and_gradients_are_those_of_the_rules(
    rule: dict[str, Any], prefix: int, tokens: int, with_documents: bool
) -> None:
    leaves = qkv_of(prefix + tokens)
    documents = packed(tokens) if with_documents else None
    ours = attend(*leaves, prefix=prefix, documents=documents, **rule)
    naive = naive_attend(*leaves, prefix=prefix, documents=documents, **rule)
    assert_same(with_gradients(ours, leaves), with_gradients(naive, leaves), 1e-12)


@each_packing
@each_prefix
@pytest.mark.parametrize("window", [2, 6, 7, 16])
def test_a_long_window_goes_by_halves(
    window: int, prefix: int, with_documents: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend_module, "LONG_WINDOW", 2)
    leaves, documents = qkv_of(prefix + 21), packed(21) if with_documents else None
    rule = {"prefix": prefix, "window": window, "causal": True, "documents": documents}
    blocks = []
    real = attend_module._blocks
    monkeypatch.setattr(attend_module, "_blocks", lambda *x: (blocks.append(x[1]), real(*x))[1])
    ours, naive = attend(*leaves, **rule), naive_attend(*leaves, **rule)
    assert_same(with_gradients(ours, leaves), with_gradients(naive, leaves), 1e-12)
    assert set(blocks) == {7 if window == 7 else window // 2}


@each_prefix
@pytest.mark.parametrize("window", [0, 1, 3, 16])
def test_a_token_sees_exactly_the_window_and_the_prefix(window: int, prefix: int) -> None:
    tokens = 21
    q, k, v = qkv_of(prefix + tokens, batch=1)
    out = attend(q, k, v, prefix=prefix, window=window, causal=True)
    for i in range(tokens):
        (gradient,) = torch.autograd.grad(out[:, :, prefix + i].sum(), v, retain_graph=True)
        seen = (gradient.abs().sum((0, 1, 3)) > 0).nonzero().flatten().tolist()
        count = min(i + 1, window or tokens)
        assert seen == [*range(prefix), *range(prefix + i + 1 - count, prefix + i + 1)]


@pytest.mark.parametrize("window", [0, 3, 16])
def test_a_later_token_changes_nothing_and_has_no_gradient(window: int) -> None:
    attention = module(window=window)
    x = normal(1, 4 + 21, WIDTH).requires_grad_()
    out = attention(x, prefix=4)
    for cut in (4, 5, 11, 24):
        (gradient,) = torch.autograd.grad(out[:, :cut].square().sum(), x, retain_graph=True)
        assert gradient[:, cut:].abs().max() == 0
        other = x.detach().clone()
        other[:, cut:] += 1
        changed = attention(other, prefix=4)[:, :cut]
        torch.testing.assert_close(changed, out[:, :cut], rtol=0, atol=1e-13)


@each_prefix
@each_rule
def test_a_packed_document_is_as_if_alone(rule: dict[str, Any], prefix: int) -> None:
    attention = module(**rule)
    lengths = [5, 1, 19, 2]
    documents = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))[None]
    x = normal(1, prefix + sum(lengths), WIDTH).requires_grad_()
    leaves = [x, *attention.parameters()]
    together = attention(x, prefix=prefix, documents=documents)[:, prefix:]
    start = prefix
    for length, part in zip(lengths, together.split(lengths, 1), strict=True):
        own = torch.cat([x[:, :prefix], x[:, start : start + length]], 1)
        ids = torch.full((1, length), 7)
        alone = attention(own, prefix=prefix, documents=ids)[:, prefix:]
        assert_same(with_gradients(part, leaves), with_gradients(alone, leaves), 1e-10)
        start += length


@each_packing
@each_prefix
@each_rule
def test_the_module_is_projections_rotary_positions_and_attention(
    rule: dict[str, Any], prefix: int, with_documents: bool
) -> None:
    attention = module(**rule, base=100.0)
    x = normal(BATCH, prefix + 18, WIDTH).requires_grad_()
    documents = packed(18) if with_documents else None
    ours = attention(x, prefix=prefix, documents=documents)
    rules = {"window": 0, **rule, "prefix": prefix, "documents": documents}
    weights = [attention.qkv.weight, attention.out.weight]
    naive = naive_self_attention(x, *weights, heads=HEADS, base=100.0, **rules)
    leaves = [x, *weights]
    assert_same(with_gradients(ours, leaves), with_gradients(naive, leaves), 1e-11)


@each_prefix
@pytest.mark.parametrize("window", [0, 1, 3, 16])
def test_prefill_and_steps_equal_the_parallel_pass(window: int, prefix: int) -> None:
    attention = module(window=window)
    tokens = 21  # more than a ring of 16 holds, and wraps one of 3 many times
    x = normal(BATCH, prefix + tokens, WIDTH)
    with torch.no_grad():
        whole = attention(x, prefix=prefix)
        for given in range(tokens + 1):
            rows = prefix + given
            out, cache = attention.prefill(x[:, :rows], prefix=prefix, capacity=tokens)
            steps = [out]
            for row in range(rows, prefix + tokens):
                out, cache = attention.step(x[:, row : row + 1], cache)
                steps.append(out)
            torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=1e-12, atol=1e-12)
            assert int(cache.seen) == tokens


def test_a_ring_keeps_the_last_window_each_in_its_slot() -> None:
    attention = module(window=5)
    x = normal(1, 2 + 14, WIDTH)
    with torch.no_grad():
        values = attention.project(x)[2][:, :, 2:]
        for given in (0, 3, 5, 8, 14):
            _, cache = attention.prefill(x[:, : 2 + given], prefix=2, capacity=0)
            storage = cache.values.data_ptr()
            for row in range(2 + given, 2 + 14):
                _, cache = attention.step(x[:, row : row + 1], cache)
            assert cache.values.data_ptr() == storage
            assert cache.keys.shape == cache.values.shape == (1, HEADS, 5, HEAD_WIDTH)
            for token in range(9, 14):
                torch.testing.assert_close(cache.values[:, :, token % 5], values[:, :, token])


def test_a_full_cache_is_refused() -> None:
    attention = module()
    x = normal(1, 2 + 4, WIDTH)
    with torch.no_grad():
        _, cache = attention.prefill(x[:, :5], prefix=2, capacity=4)
        _, cache = attention.step(x[:, 5:], cache)
        with pytest.raises(ValueError, match="capacity is 4 tokens"):
            attention.step(x[:, 5:], cache)
        with pytest.raises(ValueError, match=r"4 tokens do not fit .* capacity of 3"):
            attention.prefill(x, prefix=2, capacity=3)
        _, empty = attention.prefill(x[:, :2], prefix=2, capacity=0)
        with pytest.raises(ValueError, match="capacity is 0 tokens"):
            attention.step(x[:, 5:], empty)


def rotated(x: Tensor, positions: Tensor, base: float = 10000.0) -> Tensor:
    return turned(x, *rotary_angles(positions, x, base))


def test_rotary_positions_are_turns_of_complex_numbers() -> None:
    x = normal(BATCH, HEADS, 5, 8)
    places = [[0, 1, 2, 700, 8191], [4, 3, 2, 1, 0]]
    each = rotated(x, torch.tensor(places), base=500.0)
    torch.testing.assert_close(each, naive_rotary(x, places, 500.0), rtol=1e-11, atol=1e-11)
    shared = rotated(x, torch.tensor(places[0]))
    torch.testing.assert_close(shared, naive_rotary(x, [places[0]] * 2), rtol=1e-11, atol=1e-11)


def test_rotary_scores_depend_on_the_distance_only() -> None:
    q, k = normal(1, 1, 1, 8), normal(1, 1, 1, 8, seed=1)

    def score(i: int, j: int) -> float:
        return float((rotated(q, torch.tensor([i])) * rotated(k, torch.tensor([j]))).sum())

    assert score(9, 4) == pytest.approx(score(1009, 1004), abs=1e-9)
    assert score(9, 4) != pytest.approx(score(4, 9), abs=1e-3)
    assert score(9, 4) != pytest.approx(score(9, 5), abs=1e-3)


def test_rotary_angles_are_exact_in_bfloat16() -> None:
    x = normal(1, 1, 3, 8).bfloat16()
    positions = torch.tensor([255, 4099, 8191])
    rounded = rotated(x, positions)
    assert rounded.dtype == torch.bfloat16
    exact = rotated(x.double(), positions)
    torch.testing.assert_close(rounded.double(), exact, rtol=2**-7, atol=1e-2)


@pytest.mark.parametrize("documents", [None, packed(21)])
def test_a_layout_may_be_brought_along(documents: Tensor | None) -> None:
    attention, x = module(causal=True), normal(BATCH, 4 + 21, WIDTH)
    layout = attention.layout_of(x, 4, documents)
    options = {"prefix": 4, "documents": documents}
    assert torch.equal(attention(x, **options), attention(x, **options, layout=layout))


@each_rule
def test_bfloat16_is_close(rule: dict[str, Any]) -> None:
    attention = module(**rule).float()
    x = normal(BATCH, 4 + 21, WIDTH).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = attention(x, prefix=4, documents=packed(21))
    assert rounded.dtype == torch.bfloat16
    exact = attention(x, prefix=4, documents=packed(21))
    assert (rounded.float() - exact).norm() < 2e-2 * exact.norm()


class LargestTensor(TorchDispatchMode):
    """The most elements that any operation's result has."""

    elements = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [x.numel() for x in tree_leaves(out) if isinstance(x, Tensor)]
        self.elements = max([self.elements, *sizes])
        return out


@each_packing
def test_with_a_window_memory_is_linear(with_documents: bool) -> None:
    window, prefix = 8, 4

    def largest(tokens: int) -> int:
        leaves = qkv_of(prefix + tokens)
        documents = packed(tokens) if with_documents else None
        with LargestTensor() as mode:
            rule = {"prefix": prefix, "window": window, "causal": True, "documents": documents}
            attend(*leaves, **rule).sum().backward()
        return mode.elements

    keys = BATCH * HEADS * (prefix + 2 * window)
    assert largest(1024) <= keys * 1024  # T * T is 12 times as much
    assert largest(1024) < 2.1 * largest(512)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("window", [0, 4])
def test_it_compiles_as_one_graph(window: int) -> None:
    attention = module(window=window)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    x = normal(BATCH, 2 + 11, WIDTH)
    for documents in (None, packed(11)):
        out = compiled(x, prefix=2, documents=documents)
        torch.testing.assert_close(out, attention(x, prefix=2, documents=documents))


def test_parameters_are_two_matrices_of_the_right_size() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(256, heads=4)
    shapes = {name: tuple(p.shape) for name, p in attention.named_parameters()}
    assert shapes == {"qkv.weight": (768, 256), "out.weight": (256, 256)}
    for parameter in attention.parameters():
        assert parameter.std().item() == pytest.approx(256**-0.5, rel=0.02)
        assert parameter.abs().max() < 2.3 * 256**-0.5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"heads": 5}, "width 12 and heads 5"),
        ({"heads": 4}, "width 12 and heads 4"),
        ({"heads": 2, "window": 3}, r"window is 3.*model\.backbone\.causal is False"),
        ({"heads": 2, "window": -1, "causal": True}, r"model\.backbone\.window .* got -1"),
    ],
)
def test_impossible_settings_are_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BackboneConfig(width=WIDTH, use_memory=False, **options)


def test_what_has_no_window_or_no_next_token_says_so() -> None:
    with pytest.raises(ValueError, match="only causal attention has a window"):
        attend(*qkv_of(3), window=2)
    attention = module(causal=False)
    _, cache = attention.prefill(normal(1, 3, WIDTH), prefix=0, capacity=4)
    with pytest.raises(ValueError, match="only causal attention has a next token"):
        attention.step(normal(1, 1, WIDTH), cache)


@each_packing
def test_the_gpu_kernel_is_asked_the_same_question(with_documents: bool) -> None:
    prefix, window, tokens = 4, 3, 9
    documents = packed(tokens) if with_documents else None
    rule = sight(prefix, window, documents)
    rows = torch.arange(prefix + tokens)
    asked = rule(torch.tensor(1), torch.tensor(0), rows[:, None], rows[None, :])
    ids = None if documents is None else documents[1].tolist()
    options = {"prefix": prefix, "window": window, "causal": True, "documents": ids}
    expected = [[sees(i, j, **options) for j in rows.tolist()] for i in rows.tolist()]
    assert asked.tolist() == expected


def test_the_gpu_kernel_is_used_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not attend_module._flex_fits(torch.zeros(1, 1, 1, 64))  # not on a GPU
    monkeypatch.setattr(attend_module, "_flex_fits", lambda q: True)
    calls: list[Any] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
        calls.append(mask)
        return q

    def mask(rows: int, device: torch.device, **options: Any) -> Any:
        return rows, device.type, options

    fake = SimpleNamespace(windowed_attention=kernel, window_mask=mask)
    name = "reference_reasoner.reasoner.models.attention.flex"
    monkeypatch.setitem(sys.modules, name, fake)
    leaves = qkv_of(2 + 7)
    attend(*leaves, prefix=2, window=3, causal=True)
    attend(*leaves, prefix=2, window=7, causal=True)  # the window cuts nothing
    assert calls == [(9, "cpu", {"prefix": 2, "window": 3, "documents": None})]


@pytest.fixture
def flex_on_cpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """FlexAttention serves on CPUs, uncompiled; the rows of each mask that is made."""
    made: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(arguments[3])
        return create_block_mask(*arguments, **options)

    monkeypatch.setattr(attend_module, "_flex_fits", lambda q: True)
    attention_flex = loaded_anew("attention.flex", lambda function: function, monkeypatch)
    attention_flex._create_block_mask = counted
    return made


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@each_packing
@each_prefix
def test_flex_attention_equals_the_rules(
    prefix: int, with_documents: bool, flex_on_cpus: list[int]
) -> None:
    tokens, rule = 21, {"prefix": prefix, "window": 3, "causal": True}
    documents = packed(tokens) if with_documents else None
    leaves = [x.detach() for x in qkv_of(prefix + tokens)]
    expected = naive_attend(*leaves, documents=documents, **rule)
    torch.testing.assert_close(attend(*leaves, documents=documents, **rule), expected)
    assert flex_on_cpus == [prefix + tokens]


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_a_model_makes_one_mask_for_all_its_passes(flex_on_cpus: list[int]) -> None:
    config = ReasonerConfig(
        backbone=BackboneConfig(
            width=WIDTH, heads=HEADS, hidden_width=16, causal=True, window=3, use_memory=False
        ),
        halting=HaltingConfig(max_steps=2),
        persistent_tokens=2,
    )
    model, tokens = RecursiveReasoner(config, vocabulary=5, tokens=9), torch.ones(1, 9).long()
    with torch.no_grad():
        model(tokens)
        model(tokens, documents=packed(9)[:1])
    assert flex_on_cpus == [11, 11]
    prefill(model, tokens)
    assert flex_on_cpus == [11, 11, 11]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@each_packing
@each_prefix
def test_on_a_gpu_the_kernel_equals_the_rules(prefix: int, with_documents: bool) -> None:
    tokens = 300
    rule = {"prefix": prefix, "window": 40, "causal": True}
    documents = packed(tokens) // 16 if with_documents else None
    leaves = qkv_of(prefix + tokens, width=64)
    exact = with_gradients(attend(*leaves, documents=documents, **rule), leaves)
    on_gpu = [x.detach().cuda().float().requires_grad_() for x in leaves]
    assert attend_module._flex_fits(on_gpu[0])
    there = None if documents is None else documents.cuda()
    ours = with_gradients(attend(*on_gpu, documents=there, **rule), on_gpu)
    assert_same([x.double().cpu() for x in ours], exact, 1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_on_a_gpu_compiled_attention_takes_its_mask_from_outside() -> None:
    prefix, tokens = 4, 300
    torch.manual_seed(0)
    attention = SelfAttention(64, heads=2, window=40, causal=True)
    x, documents = torch.randn(BATCH, prefix + tokens, 64), packed(tokens) // 16
    on_gpu = copy.deepcopy(attention).cuda()
    compiled = torch.compile(on_gpu, dynamic=False)
    for some in (documents, documents // 2):  # another mask, and nothing is compiled anew
        layout = on_gpu.layout_of(x.cuda(), prefix, some.cuda())
        assert layout.block_mask is not None
        ours = compiled(x.cuda(), prefix=prefix, documents=some.cuda(), layout=layout)
        expected = attention(x, prefix=prefix, documents=some)
        torch.testing.assert_close(ours.cpu(), expected, rtol=1e-2, atol=1e-2)
