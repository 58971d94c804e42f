"""Written-out gradients of what is sequential in the linear memory, and when kernels do it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.layers import triton_support
from reference_reasoner.reasoner.models.memory import routes
from reference_reasoner.reasoner.models.memory.gpu import linear_launch
from reference_reasoner.reasoner.models.memory.solve import (
    Recurred,
    Substituted,
    carried_on,
    recurrence,
    solve,
    substitution,
)

from .memory_cases import assert_close, gradients, make_case, normal, resets_of
from .test_memory_linear import _run


def chunks_of(resetting: bool) -> list[Any]:
    """Steps, pushes, start, initial and resets of 2 rows and 4 chunks, float64."""
    steps, pushes = 0.5 * normal(2, 4, 6, 6, seed=1), normal(2, 4, 6, 3, seed=2)
    leaves = [steps, pushes, normal(2, 6, 3, seed=3), normal(2, 6, 3, seed=4)]
    return [*(leaf.requires_grad_() for leaf in leaves), resets_of(4) if resetting else None]


def with_gradients(outputs: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    total = sum((x * normal(*x.shape, seed=30 + i)).sum() for i, x in enumerate(outputs))
    found = torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)
    return [*outputs, *found]


@pytest.mark.parametrize("resetting", [False, True])
def test_chunks_and_their_gradients_are_those_of_autograd(resetting: bool) -> None:
    given = chunks_of(resetting)
    plain = recurrence(*given, backwards=False)
    written_out = Recurred.apply(*given, recurrence)
    assert_close(with_gradients([*written_out], given[:4]), with_gradients([*plain], given[:4]))


def test_substitution_and_its_gradients_are_those_of_autograd() -> None:
    whole, right = normal(2, 3, 5, 5, seed=1), normal(2, 3, 5, 4, seed=2)
    leaves = [whole.requires_grad_(), right.requires_grad_()]
    lower = whole.tril(-1)
    plain = torch.linalg.solve(torch.eye(5, dtype=torch.float64) + lower, right)
    assert_close([substitution(lower, right, transposed=False)], [plain])
    written_out = Substituted.apply(lower, right, substitution)
    assert_close(with_gradients([written_out], leaves), with_gradients([plain], leaves))


@pytest.mark.parametrize("resetting", [False, True])
def test_the_memory_is_the_same_by_kernels(
    resetting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The torch forms stand in for the kernels, which are called where they serve."""
    calls: list[str] = []

    def substituted(lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
        calls.append("substituted")
        return substitution(lower, right, transposed=transposed)

    def recurred(*given: Any, backwards: bool) -> tuple[Tensor, Tensor]:
        calls.append("recurred")
        return recurrence(*given, backwards=backwards)

    monkeypatch.setattr(routes, "by_chunk_serves", lambda x: False)
    case = make_case(12, deep=False, grad=True)
    resets = resets_of(3) if resetting else None
    plain = _run(case, 4, resets)
    assert calls == []
    monkeypatch.setattr(linear_launch, "substituted", substituted)
    monkeypatch.setattr(linear_launch, "recurred", recurred)
    for name in ("kernels_may_serve", "substitution_agrees", "recurrence_agrees"):
        monkeypatch.setattr(linear_launch, name, lambda x: True)
    monkeypatch.setattr(linear_launch, "recurrence_fits", lambda size, columns: True)
    ours = _run(case, 4, resets)
    assert_close(ours, plain)
    assert_close(gradients(case, ours), gradients(case, plain))
    assert calls == ["substituted", "recurred", "recurred", "substituted"]
    monkeypatch.setattr(linear_launch, "recurrence_fits", lambda size, columns: False)
    calls.clear()
    assert_close(_run(case, 4, resets), plain)
    assert calls == ["substituted"]


def test_kernels_serve_float32_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(is_cuda=True, dtype=torch.float32)
    monkeypatch.setattr(triton_support, "kernels_run", lambda: True)

    def serves(**other: Any) -> bool:
        x: Any = SimpleNamespace(**{**vars(there), **other})
        return linear_launch.kernels_may_serve(x)

    assert serves()
    assert not serves(is_cuda=False)
    assert not serves(dtype=torch.bfloat16)
    assert not serves(dtype=torch.float64)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not serves()
    assert linear_launch.recurrence_fits(128, 64)
    assert not linear_launch.recurrence_fits(256, 64)
    assert not linear_launch.recurrence_fits(128, 24)


@pytest.mark.parametrize(
    ("triton", "version", "capability", "expected"),
    [(True, "13.0", (9, 0), True), (False, "13.0", (9, 0), False), (True, None, (9, 0), False),
     (True, "13.0", (8, 0), False), (True, "13.0", (12, 0), False)],
)  # fmt: skip
def test_kernels_run_by_triton_on_recent_gpus(
    triton: bool,
    version: str | None,
    capability: tuple[int, int],
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_support, "TRITON_IS_THERE", triton)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert triton_support.kernels_run() == expected


def test_without_chunks_or_rows_there_is_nothing_to_do() -> None:
    lower, right = torch.zeros(0, 4, 4), torch.zeros(0, 4, 2)
    assert solve(lower, right, substitution).shape == (0, 4, 2)
    starts, end = carried_on(
        torch.zeros(0, 2, 4, 4),
        torch.zeros(0, 2, 4, 2),
        torch.zeros(0, 4, 2),
        None,
        None,
        recurrence,
    )
    assert (starts.shape, end.shape) == ((0, 2, 4, 2), (0, 4, 2))
