"""From projections to reads in one call of C: the numbers and gradients of the steps apart."""

import pytest
import torch
from torch import Tensor

from reference_reasoner.models import memory_fused, memory_native
from reference_reasoner.models.memory_native import native_backward, native_forward
from reference_reasoner.models.memory_operators import by_chunk
from reference_reasoner.models.memory_pairs import PairsByBlock
from reference_reasoner.models.native_arguments import Arguments, Given
from reference_reasoner.models.neural_memory import MemoryConfig, NeuralMemory

from .c_compiler import needs_c
from .memory_cases import normal

BATCH, HEADS, WIDTH, FEATURES, CHUNK, TOKENS = 2, 3, 16, 32, 16, 64
FORMS = pytest.mark.parametrize("deep", [False, True], ids=["linear", "deep"])


def _inputs(deep: bool, taps: int) -> tuple[list[Tensor], list[Tensor]]:
    """float64: projections, taps and gates, states; some tokens project to nothing or nearly so."""
    rows = BATCH * HEADS
    projected = normal(BATCH, TOKENS, 3 * HEADS * WIDTH, seed=1)
    projected[0, 20:40] = 0
    projected[1, 0] *= 1e-14
    gates = [normal(rows, TOKENS, seed=seed) for seed in (3, 4, 5, 6)]
    logs = [torch.nn.functional.logsigmoid(x + 1) for x in gates[1:3]]
    tokens = [projected, normal(3 * HEADS * WIDTH, taps, seed=2), gates[0].sigmoid(), *logs]
    shapes = [(2 * WIDTH, WIDTH)]
    if deep:
        tokens.append(gates[3].sigmoid())
        shapes = [(2 * FEATURES, WIDTH), (2 * WIDTH, FEATURES)]
    return tokens, [normal(rows, *shape, seed=10 + i) / 4 for i, shape in enumerate(shapes)]


@needs_c
@FORMS
@pytest.mark.parametrize("taps", [1, 4, CHUNK])
def test_numbers_and_gradients_are_those_of_the_steps_apart(deep: bool, taps: int) -> None:
    tokens, states = _inputs(deep, taps)
    for leaf in (*tokens, *states):
        leaf.requires_grad_()
    pairs = PairsByBlock.apply(*tokens[:2], HEADS, 3)  # type: ignore[no-untyped-call]
    exact = by_chunk([*pairs, *tokens[2:]], states, [], None, CHUNK)
    weights = [normal(*x.shape, seed=30 + i) for i, x in enumerate(exact)]
    for weight in weights:  # where a short length makes a steep slope
        weight[HEADS:, 0] *= 1e-9
    total = sum((x * weight).sum() for x, weight in zip(exact, weights, strict=True))
    grads = torch.autograd.grad(total, [*tokens, *states])  # type: ignore[arg-type]

    given, begin = ([x.detach().float() for x in each] for each in (tokens, states))
    found = native_forward(given, begin, [], None, CHUNK, training=True, keep=False, heads=HEADS)
    back = [x.float() for x in weights]
    by_inputs = native_backward(given, None, found[len(exact) :], back, heads=HEADS)
    for one, other in zip((*found[: len(exact)], *by_inputs), (*exact, *grads), strict=True):
        scale = float(other.detach().abs().max())
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=5e-6 * scale)


@needs_c
@FORMS
def test_rows_may_lie_apart_and_threads_change_nothing(
    deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (longer, *tokens), states = ([x.float() for x in each] for each in _inputs(deep, 4))
    gates = [x[:, CHUNK:].contiguous() for x in tokens[1:]]
    later, found = longer[:, CHUNK:], []
    for threads, projected in (
        (1, later), (3, later.clone()), (2, later.mT.contiguous().mT),
    ):  # fmt: skip
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        given = [projected, tokens[0], *gates]
        results = native_forward(
            given, states, [], None, CHUNK, training=True, keep=False, heads=HEADS
        )
        count = 5 if deep else 2
        by = native_backward(given, None, results[count:], results[:count], heads=HEADS)
        found.append([*results, *by])
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@needs_c
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    ("tokens", "prefix", "served"),
    [(64, 0, True), (67, 3, True), (65, 0, False), (3, 3, False)],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_a_compiled_memory_uses_it_for_whole_chunks(
    depth: int, tokens: int, prefix: int, served: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = memory_native.call

    def call(name: str, given: Given, *rest: Arguments) -> None:
        used.append((name, bool(given.heads)))
        real(name, given, *rest)

    monkeypatch.setattr(memory_native, "call", call)
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
    if served:  # the state, too, that decoding goes on from
        prefill = torch.compile(memory.prefill, dynamic=False, backend="aot_eager")
        with torch.no_grad():
            (_, eager), (_, cache) = memory.prefill(x), prefill(x)
        for one, other in zip(eager.state, cache.state, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_eager_code_takes_the_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_fused, "_operator", lambda *_: pytest.fail("fused"))
    NeuralMemory(32, MemoryConfig(heads=2, chunk=32), causal=True)(torch.randn(1, 64, 32))
