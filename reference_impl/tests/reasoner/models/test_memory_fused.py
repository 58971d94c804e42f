"""From tokens to reads in one call of C: the numbers and gradients of the steps apart."""

from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.chunk_operator import by_chunk
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.memory.cpu.heads_by_block import HeadsByBlock
from reference_reasoner.reasoner.models.memory.gates import TokenGates
from reference_reasoner.reasoner.models.memory.native import (
    calls as memory_native,
)
from reference_reasoner.reasoner.models.memory.native import (
    layer as native_layer,
)
from reference_reasoner.reasoner.models.memory.native import (
    whole_layer as memory_fused,
)
from reference_reasoner.reasoner.models.memory.native.arguments import Arguments
from reference_reasoner.reasoner.models.memory.native.calls import (
    native_backward,
    native_forward,
)
from reference_reasoner.reasoner.models.memory.native.layer import native_gates, native_output
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory

from .c_compiler import needs_c
from .memory_cases import normal

BATCH, HEADS, WIDTH, FEATURES, CHUNK, TOKENS, INPUTS = 2, 3, 16, 32, 16, 64, 32
FORMS = pytest.mark.parametrize("deep", [False, True], ids=["linear", "deep"])


def _inputs(deep: bool, taps: int) -> tuple[list[Tensor], list[Tensor]]:
    """float64: x, matrix, taps and gates, states; some tokens are nothing or nearly so."""
    rows, channels = BATCH * HEADS, 3 * HEADS * WIDTH
    x = normal(BATCH, TOKENS, INPUTS, seed=1)
    x[0, 20:40] = 0
    x[1, 0] *= 1e-14
    gates = [normal(rows, TOKENS, seed=seed) for seed in (3, 4, 5, 6)]
    logs = [torch.nn.functional.logsigmoid(x + 1) for x in gates[1:3]]
    matrix = normal(channels, INPUTS, seed=7) / INPUTS**0.5
    tokens = [x, matrix, normal(channels, taps, seed=2), gates[0].sigmoid(), *logs]
    shapes = [(2 * WIDTH, WIDTH)]
    if deep:
        tokens.append(gates[3].sigmoid())
        shapes = [(2 * FEATURES, WIDTH), (2 * WIDTH, FEATURES)]
    return tokens, [normal(rows, *shape, seed=10 + i) / 4 for i, shape in enumerate(shapes)]


def _threads(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)


@needs_c
@FORMS
@pytest.mark.parametrize("taps", [1, 4, CHUNK])
def test_numbers_and_gradients_are_those_of_the_steps_apart(deep: bool, taps: int) -> None:
    tokens, states = _inputs(deep, taps)
    given, begin = ([x.float() for x in each] for each in (tokens, states))
    found = native_forward(given, begin, [], None, CHUNK, training=True, keep=False, heads=HEADS)
    torch.testing.assert_close(found[-1].double(), tokens[0] @ tokens[1].T, rtol=1e-5, atol=1e-5)

    projected = found[-1].double()
    leaves = [projected, *tokens[2:], *states]
    for leaf in leaves:
        leaf.requires_grad_()
    pairs = HeadsByBlock.apply(projected, tokens[2], HEADS, 3)  # type: ignore[no-untyped-call]
    exact = by_chunk([*pairs, *tokens[3:]], states, [], None, CHUNK)
    weights = [normal(*x.shape, seed=30 + i) for i, x in enumerate(exact)]
    for weight in weights:  # where a short length makes a steep slope
        weight[HEADS:, 0] *= 1e-9
    total = sum((x * weight).sum() for x, weight in zip(exact, weights, strict=True))
    grads = torch.autograd.grad(total, leaves)  # type: ignore[arg-type]
    back = [x.float() for x in weights]
    by_inputs = native_backward(given, None, found[len(exact) :], back, heads=HEADS)
    for one, other in zip((*found[: len(exact)], *by_inputs), (*exact, *grads), strict=True):
        scale = float(other.detach().abs().max())
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=5e-6 * scale)


@needs_c
@FORMS
@pytest.mark.parametrize("taps", [1, 4])
def test_rows_may_lie_apart_and_threads_change_nothing(
    deep: bool, taps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (longer, *tokens), states = ([x.float() for x in each] for each in _inputs(deep, taps))
    gates = [x[:, CHUNK:].contiguous() for x in tokens[2:]]
    later, found, count = longer[:, CHUNK:], [], 5 if deep else 2
    # the six rows cannot be shared out evenly by four threads, which project all tokens first
    for threads, x in (
        (1, later), (4, later), (3, later.clone()), (2, later.mT.contiguous().mT),
    ):  # fmt: skip
        _threads(threads, monkeypatch)
        given = [x, *tokens[:2], *gates]
        results = native_forward(
            given, states, [], None, CHUNK, training=True, keep=False, heads=HEADS
        )
        by = native_backward(given, None, results[count:], results[:count], heads=HEADS)
        found.append([*results, *by])
        alone = native_forward(
            given, states, [], None, CHUNK, training=False, keep=False, heads=HEADS
        )
        assert all(map(torch.equal, alone, results[:count]))
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@needs_c
@pytest.mark.parametrize("kinds", [3, 4])
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("forgetting", [False, True])
def test_gates_are_those_of_the_module(kinds: int, momentum: bool, forgetting: bool) -> None:
    module = TokenGates(
        INPUTS, heads=HEADS, momentum=momentum, forgetting=forgetting, inner=kinds == 4
    ).double()
    for i, parameter in enumerate(module.parameters()):
        parameter.data = normal(*parameter.shape, seed=i)
    x = normal(BATCH, TOKENS + CHUNK, INPUTS, seed=9)[:, CHUNK:]
    x[0, 0] *= 1e3  # logits whose sigmoid is 0 or 1
    theta, keep, eta, inner = module(x)
    exact = [theta, keep.exp(), eta.exp(), inner][:kinds]
    given = (x.float(), module.linear.weight.float(), module.linear.bias.float(), HEADS, CHUNK)
    found = native_gates(*given, momentum=momentum, forgetting=forgetting)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), other.detach(), rtol=1e-5, atol=1e-30)


@needs_c
def test_the_output_is_that_of_the_module() -> None:
    module = NeuralMemory(HEADS * WIDTH, MemoryConfig(heads=HEADS), causal=True).double()
    module.norm.data = normal(HEADS * WIDTH, seed=1)
    read = normal(BATCH * HEADS, TOKENS, WIDTH, seed=2)
    read[0, 3] = 0
    read[1, 4] *= 1e-4
    exact = module.output(read, torch.empty(BATCH, TOKENS, HEADS * WIDTH, dtype=torch.float64))
    given = (read.float(), module.norm.float(), module.out.weight.float(), HEADS, CHUNK)
    torch.testing.assert_close(native_output(*given).double(), exact, rtol=1e-5, atol=1e-5)


@needs_c
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    ("depth", "tokens", "prefix", "served"),
    [
        *((1, 64, 0, True), (1, 67, 3, True), (1, 65, 0, False), (1, 3, 3, False)),
        *((2, 64, 0, True), (2, 67, 3, True)),
    ],
)
def test_a_compiled_memory_uses_it_for_whole_chunks(
    depth: int, tokens: int, prefix: int, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = memory_native.call

    def call(name: str, given: Any, *rest: Arguments) -> None:
        used.append((name, bool(given.heads)))
        real(name, given, *rest)

    for module in (memory_native, native_layer):
        monkeypatch.setattr(module, "call", call)
    torch.manual_seed(0)
    config = MemoryConfig(heads=2, depth=depth, features=32, chunk=32)
    memory = NeuralMemory(32, config, causal=True)
    x = torch.randn(2, tokens, 32)
    torch.compiler.reset()
    compiled = torch.compile(memory, fullgraph=True, dynamic=False, backend="aot_eager")
    found = []
    for each in (memory, compiled):
        leaf = x.clone().requires_grad_()
        out = each(leaf, prefix=prefix)
        leaves, total = [leaf, *memory.parameters()], out.square().sum()
        grads = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
        found.append([out, *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert (("memory_forward", True) in used) == served
    assert (("memory_backward", True) in used) == served
    used.clear()  # without gradients the whole layer is C, with what decoding goes on from
    prefill = torch.compile(memory.prefill, dynamic=False, backend="aot_eager")
    with torch.no_grad():
        caches = [each(x, prefix=prefix) for each in (memory.prefill, prefill)]
    results = ([out, *cache.state, cache.tail] for out, cache in caches)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert (("output_forward", True) in used) == served
    assert (("gates_forward", True) in used) == served


@needs_c
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("how", ["autocast", "bfloat16", "float64", "frozen"])
def test_other_precisions_take_the_steps_apart_and_frozen_weights_do_not(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = native_layer.call
    monkeypatch.setattr(
        native_layer, "call", lambda name, *rest: (used.append(name), real(name, *rest))
    )
    kind = {"bfloat16": torch.bfloat16, "float64": torch.float64}.get(how, torch.float32)
    torch.manual_seed(0)
    memory = NeuralMemory(32, MemoryConfig(heads=2, chunk=32), causal=True).to(kind)
    memory.requires_grad_(how != "frozen")
    torch.compiler.reset()
    compiled = torch.compile(memory, dynamic=False, backend="aot_eager")
    x = torch.randn(2, 64, 32).to(kind)
    lower = torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast")
    with lower, torch.set_grad_enabled(how == "frozen"):
        found = [each(x) for each in (memory, compiled)]
    rough = 2e-2 if found[0].dtype == torch.bfloat16 else 1e-4
    torch.testing.assert_close(*found, rtol=rough, atol=rough)
    assert used == (["gates_forward", "output_forward"] if how == "frozen" else [])


def test_eager_code_takes_the_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_operator", "_layer_operator"):
        monkeypatch.setattr(memory_fused, name, lambda *_: pytest.fail("fused"))
    NeuralMemory(32, MemoryConfig(heads=2, chunk=32), causal=True)(torch.randn(1, 64, 32))
