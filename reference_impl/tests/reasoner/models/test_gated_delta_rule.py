"""Without momentum the exact linear memory is the public gated delta rule.

Its numbers are of flash-linear-attention; gated_delta_rule.json says how they were made, and which
change of variables makes the two equal.
"""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory import routes
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.gpu import gated_delta
from reference_reasoner.reasoner.models.memory.heads import Heads
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory
from reference_reasoner.reasoner.models.memory.routes import scan_linear
from reference_reasoner.reasoner.models.memory.scan import Sequence, scan_memory
from reference_reasoner.reasoner.models.memory.state import LinearState

from .formulas import gated_delta_rule_inputs, reference
from .memory_cases import Case, assert_close, gradients, make_case


@pytest.mark.parametrize("chunk", [1, 5, 12, 64])
def test_it_is_the_gated_delta_rule(chunk: int) -> None:
    stored = reference("gated_delta_rule")
    given = gated_delta_rule_inputs()
    for name, total in stored["input_sums"].items():
        assert float(given[name].sum()) == pytest.approx(total, abs=1e-12)
    theta, alpha = given["theta"], given["alpha"]
    gates = Gates(theta, (-alpha).log1p(), torch.full_like(theta, -torch.inf), theta)
    zero = torch.zeros(2, 8, 8, dtype=torch.float64)
    out, state, _ = scan_linear(
        given["q"], given["k"], given["v"], gates, LinearState(zero, zero), chunk=chunk
    )
    wanted = torch.tensor(stored["output"], dtype=torch.float64)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    memory = torch.tensor(stored["final_memory"], dtype=torch.float64)
    torch.testing.assert_close(state.weights, memory, rtol=0, atol=1e-12)


def plain_rule(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """The rule as its paper has it, token after token."""
    reads = []
    for t in range(q.shape[1]):
        start = decay[:, t, None, None].exp() * start
        missing = v[:, t] - (k[:, t, None] @ start)[:, 0]
        start = start + beta[:, t, None, None] * k[:, t, :, None] * missing[:, None]
        reads.append((q[:, t, None] @ start)[:, 0])
    return torch.stack(reads, 1), start


@pytest.fixture
def by_rule(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The plain loop in place of the extra's kernels; grows by one with each use."""
    calls: list[int] = []

    def rule(*given: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        return plain_rule(*given)

    kernels = SimpleNamespace(gated_delta_rule=rule)
    name = "reference_reasoner.reasoner.models.memory.gpu.gated_delta_cuda"
    monkeypatch.setitem(sys.modules, name, kernels)
    monkeypatch.setattr(routes, "by_chunk_serves", lambda q: False)
    monkeypatch.setattr(routes, "delta_rule_serves", lambda q, resets: resets is None)
    return calls


def run(case: Case, *, momentum: bool) -> list[Tensor]:
    gates, state = Gates(*case.gates), LinearState(*case.state)
    given = Sequence(Heads(*case[:3]), gates, state, None, 4, "exact", momentum)
    read, after, _ = scan_memory(given)
    return [read, *after]


def test_by_the_rule_the_memory_is_the_same(by_rule: list[int]) -> None:
    case = make_case(9, deep=False, kind="no_momentum", grad=True)
    plain = run(case, momentum=True)
    assert not by_rule
    ours = run(case, momentum=False)
    assert len(by_rule) == 1
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))


def test_only_a_memory_without_momentum_goes_by_the_rule(by_rule: list[int]) -> None:
    x = torch.ones(1, 6, 8)
    for momentum in (True, False):
        config = MemoryConfig(heads=2, momentum=momentum, chunk=4)
        NeuralMemory(8, config, causal=True)(x)
        assert len(by_rule) == int(not momentum)
    NeuralMemory(8, config, causal=True)(x, documents=torch.zeros(1, 6, dtype=torch.int64))
    assert len(by_rule) == 1


def test_the_extra_serves_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gated_delta, "kernels_may_serve", lambda q: True)
    monkeypatch.setattr(gated_delta, "delta_rule_agrees", lambda device: device.type == "cpu")
    q, resets = torch.zeros(1, 5, 16), torch.zeros(1, 1, dtype=torch.bool)
    monkeypatch.setattr(gated_delta, "FLA_IS_THERE", False)
    assert not gated_delta.delta_rule_serves(q, None)
    monkeypatch.setattr(gated_delta, "FLA_IS_THERE", True)
    assert gated_delta.delta_rule_serves(q, None)
    assert not gated_delta.delta_rule_serves(q, resets)
    assert not gated_delta.delta_rule_serves(q[:, :1], None)
    assert not gated_delta.delta_rule_serves(q[..., :12], None)


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1.0, ""), (1.1, "torch's from its memory and its reads"), (torch.nan, "its")],
)
def test_the_extra_is_held_against_torch_once(
    factor: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rule(*given: Tensor) -> tuple[Tensor, Tensor]:
        read, after = plain_rule(*given)
        return factor * read, factor * after

    name = "reference_reasoner.reasoner.models.memory.gpu.gated_delta_cuda"
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(gated_delta_rule=rule))
    monkeypatch.setattr(gated_delta, "FLA_IS_THERE", True)
    monkeypatch.setattr(gated_delta, "kernels_may_serve", lambda q: True)
    gated_delta.delta_rule_agrees.cache_clear()
    q = torch.zeros(1, 5, 16)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for _ in range(2):
            assert gated_delta.delta_rule_serves(q, None) == (not said)
    assert len(warned) == bool(said)
    assert all(said in str(each.message) for each in warned)
    assert all("the extra fla does not serve on cpu" in str(each.message) for each in warned)
    gated_delta.delta_rule_agrees.cache_clear()
