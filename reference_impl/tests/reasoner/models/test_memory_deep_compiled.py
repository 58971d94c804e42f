"""A compiled chunk gives what a chunk gives, and serves only where it does."""

import functools
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory import deep, routes
from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.routes import scan_deep
from reference_reasoner.reasoner.models.memory.solve import TORCH
from reference_reasoner.reasoner.models.memory.state import DeepState

from .loaded_anew import loaded_anew
from .memory_cases import Case, assert_close, gradients, make_case

CPU = torch.device("cpu")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, whose halves torch.compile traces and differentiates; CPUs count as GPUs."""
    torch.compiler.reset()
    compile_by = functools.partial(torch.compile, backend="aot_eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        monkeypatch.setattr(routes, "by_chunk_serves", lambda x: False)
        yield loaded_anew("memory.gpu.deep_compiled", compile_by, monkeypatch)
    torch.compiler.reset()


def by_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPUs count as the kernels' GPU, and torch's own sums as kernels."""
    monkeypatch.setattr(routes, "kernels_may_serve", lambda q: True)
    monkeypatch.setattr(routes, "sums_for", lambda q, v: TORCH)


def run(case: Case) -> list[Tensor]:
    """What the tokens read and what the memory holds after them."""
    state = DeepState(*case.state, case.state[0], case.state[2])
    read, after, _ = scan_deep(case.q, case.k, case.v, Gates(*case.gates), state, chunk=4)
    return [read, *after[:4]]


@pytest.mark.parametrize("tokens", [8, 11])
def test_values_and_gradients_are_the_same(
    compiled: Any, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tokens, deep=True, grad=True)
    expected = run(case)
    slopes = gradients(case, expected)
    asked = []

    def agrees(device: torch.device) -> bool:
        asked.append(device)
        return True

    by_kernels(monkeypatch)
    monkeypatch.setattr(compiled, "chunk_agrees", agrees)
    found = run(case)
    assert asked == [CPU]
    assert_close(found, expected)
    assert_close(gradients(case, found), slopes)


def test_it_serves_where_it_is_right(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiled.chunk_agrees(CPU)
    by_kernels(monkeypatch)
    chosen: Any = routes._exact_chunk(torch.zeros(1), torch.zeros(1))
    assert chosen.func is compiled.compiled_chunk


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda *_: 1 / 0, r"ZeroDivisionError: division by zero"),
        (lambda part, first, second, *_: (first, first, second), "torch's from its first layer"),
        (lambda part, first, second, *_: (first, first, second * torch.nan), "from its first"),
    ],
    ids=["fails", "wrong", "nan"],
)
def test_it_does_not_serve_where_it_is_wrong(
    compiled: Any, write: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_write", write)
    by_kernels(monkeypatch)
    with pytest.warns(UserWarning, match=f"does not serve on cpu .*{said}"):
        chosen: Any = routes._exact_chunk(torch.zeros(1), torch.zeros(1))
    assert chosen.func is deep.exact_chunk
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        assert not compiled.chunk_agrees(CPU)
