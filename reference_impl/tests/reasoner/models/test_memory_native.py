"""The memory's C: the numbers and gradients of torch's form."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.chunk_operator import by_chunk
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.memory.native import calls as memory_native
from reference_reasoner.reasoner.models.memory.native.calls import (
    native_backward,
    native_forward,
    native_serves,
)
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory

from .c_compiler import needs_c
from .memory_cases import normal, unit

ROWS, TOKENS, CHUNK, KEYS, FEATURES, VALUES = 3, 48, 16, 32, 48, 16
FORMS = pytest.mark.parametrize("deep", [False, True], ids=["linear", "deep"])


class Case(NamedTuple):
    """What `by_chunk` takes, float64."""

    tokens: list[Tensor]
    states: list[Tensor]
    initial: list[Tensor]
    resets: Tensor | None

    def single(self) -> "Case":
        parts = ([x.detach().float() for x in part] for part in self[:3])
        return Case(*parts, self.resets)  # type: ignore[arg-type]

    def leaves(self) -> list[Tensor]:
        return [*self.tokens, *self.states, *self.initial]


def _case(deep: bool, *, packed: bool = False) -> Case:
    """Some gates are 0; packed, with resets at the first chunk of a row and in the middle."""
    q, k = (unit(normal(ROWS, TOKENS, KEYS, seed=seed)) for seed in (1, 2))
    rate, keep, eta, inner = (normal(ROWS, TOKENS, seed=seed) for seed in (3, 4, 5, 6))
    logs = [torch.nn.functional.logsigmoid(x + 1) for x in (keep, eta)]
    logs = [log.masked_fill(x > 1.5, -torch.inf) for log, x in zip(logs, (keep, eta), strict=True)]
    tokens = [q, k, normal(ROWS, TOKENS, VALUES, seed=7), rate.sigmoid(), *logs]
    shapes = [(2 * VALUES, KEYS)]
    if deep:
        tokens.append(inner.sigmoid())
        shapes = [(2 * FEATURES, KEYS), (2 * VALUES, FEATURES)]
    states, other = (
        [normal(ROWS, *shape, seed=seed + i) / 4 for i, shape in enumerate(shapes)]
        for seed in (10, 20)
    )
    resets = torch.tensor([[True, False, True], [False, True, False], [False] * 3])
    return Case(tokens, states, other if packed else [], resets if packed else None)


def _exact(case: Case, keep: bool) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Torch's results in float64, what they are weighted by, and the gradients of that."""
    for leaf in case.leaves():
        leaf.requires_grad_()
    results = by_chunk(case.tokens, case.states, case.initial, case.resets, CHUNK, keep=keep)
    weights = [normal(*x.shape, seed=30 + i) for i, x in enumerate(results)]
    total = sum((x * weight).sum() for x, weight in zip(results, weights, strict=True))
    return results, weights, [*torch.autograd.grad(total, case.leaves())]  # type: ignore[arg-type]


def _equal(found: list[Tensor], exact: list[Tensor]) -> None:
    for one, other in zip(found, exact, strict=True):
        apart = float((one.double() - other.detach()).abs().max())
        assert apart <= 5e-6 * float(other.detach().abs().max())


@needs_c
@FORMS
@pytest.mark.parametrize("keep", [False, True], ids=["", "kept"])
@pytest.mark.parametrize("packed", [False, True], ids=["one", "packed"])
def test_numbers_and_gradients_are_torchs(deep: bool, keep: bool, packed: bool) -> None:
    case = _case(deep, packed=packed)
    exact, weights, grads = _exact(case, keep)
    tokens, states, initial, resets = case.single()
    assert native_serves(tokens, states, CHUNK)
    found = native_forward(tokens, states, initial, resets, CHUNK, training=True, keep=keep)
    results, saved = found[: len(exact)], found[len(exact) :]
    _equal(results, exact)
    _equal(native_backward(tokens, resets, saved, [x.float() for x in weights]), grads)
    alone = native_forward(tokens, states, initial, resets, CHUNK, training=False, keep=keep)
    assert all(map(torch.equal, alone, results))


@needs_c
@FORMS
def test_a_closed_gate_gets_no_gradient(deep: bool) -> None:
    case = _case(deep)
    _, weights, _ = _exact(case, keep=False)
    tokens, states, *_ = case.single()
    found = native_forward(tokens, states, [], None, CHUNK, training=True, keep=False)
    grads = [x.float() for x in weights]
    _, _, _, _, *by_logs = native_backward(tokens, None, found[len(grads) :], grads)[:6]
    for log, grad in zip(tokens[4:6], by_logs, strict=True):
        closed = log == -torch.inf
        assert bool(closed.any())
        assert not grad[closed].any()


@needs_c
@FORMS
def test_inputs_stay_as_they_are_and_threads_change_nothing(
    deep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, states, initial, resets = _case(deep, packed=True).single()
    # as the state after a first part comes: C's own memory, seen the other way round
    states = [x.mT.contiguous().mT for x in states]
    before = [x.clone() for x in (*tokens, *states, *initial)]
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        given = (tokens, states, initial, resets, CHUNK)
        found.append(native_forward(*given, training=True, keep=True))
    assert all(map(torch.equal, *found))
    assert all(map(torch.equal, before, (*tokens, *states, *initial)))


@needs_c
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("depth", [1, 2])
def test_a_compiled_memory_is_its_own_eager_twin(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    real = memory_native.call
    monkeypatch.setattr(
        memory_native, "call", lambda name, *rest: (calls.append(name), real(name, *rest))
    )
    torch.manual_seed(0)
    config = MemoryConfig(heads=2, depth=depth, features=32, chunk=32)
    memory = NeuralMemory(32, config, causal=True)
    x = torch.randn(2, 90, 32)
    torch.compiler.reset()
    compiled = torch.compile(memory, fullgraph=True, dynamic=False, backend="aot_eager")
    found = []
    for each in (memory, compiled):
        given = x.clone().requires_grad_()
        out = each(given, prefix=3)
        grads = torch.autograd.grad(out.square().sum(), [given, *memory.parameters()])
        found.append([out, *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert {"memory_forward", "memory_backward"} <= set(calls)


@needs_c
def test_it_takes_float32_in_whole_tiles() -> None:
    case = _case(deep=False)
    tokens, states, *_ = case.single()
    assert native_serves(tokens, states, CHUNK)
    assert not native_serves(case.tokens, case.states, CHUNK)
    assert not native_serves(tokens, states, CHUNK - 4)
    assert not native_serves(tokens, [states[0][..., :24]], CHUNK)
    assert not native_serves([tokens[0].to("meta")], states, CHUNK)
