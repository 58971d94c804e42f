"""Kernels that fail or give other numbers are found before they serve; these are torch's."""

import sys
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory
from reference_reasoner.reasoner.models.memory.sequential import recurrence, substitution
from reference_reasoner.reasoner.models.memory.sets import set_memory
from reference_reasoner.reasoner.models.serving.kernel_check import kernels_agree

from .step_kernels import attend_next, recall_next

CPU = torch.device("cpu")


def recalled(pairs: Tensor, logits: Tensor, memory: NeuralMemory) -> Tensor:
    """What the kernel does, in torch."""
    gates = memory.gates.of_logits(logits)
    read, _ = set_memory(*memory.pairs(pairs), gates, memory.initial_state(len(pairs)))
    with_norm = torch.nn.functional.rms_norm(read, (memory.head_width,), eps=1e-5)
    joined = with_norm.view(len(pairs), -1, *read.shape[1:]).transpose(1, 2).flatten(2)
    return joined * memory.norm


KERNELS: dict[str, Callable[..., Any]] = {
    "recurred": recurrence,
    "substituted": substitution,
    "recalled": recalled,
    "attend_next": attend_next,
    "recall_next": recall_next,
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What stands in for the modules of kernels, but for what a test changes."""

    def installed(**changes: Any) -> None:
        fake = SimpleNamespace(**{**KERNELS, **changes})
        for name in ("memory_linear_launch", "memory_set_launch", "fused_step_launch"):
            monkeypatch.setitem(
                sys.modules, f"reference_reasoner.reasoner.models.{name}", fake
            )
        kernels_agree.cache_clear()

    yield installed
    kernels_agree.cache_clear()


def test_right_kernels_serve(install: Any) -> None:
    install()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels_agree(CPU)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("substituted", "substitution"),
        ("recurred", "the recurrence"),
        ("recalled", "the memory of a set"),
        ("attend_next", "a decoded token"),
        ("recall_next", "a decoded token"),
    ],
)
def test_a_kernel_of_other_numbers_does_not_serve(install: Any, name: str, said: str) -> None:
    def wrong(*given: Any, **how: Any) -> Any:
        found = KERNELS[name](*given, **how)
        if found is None:  # it has written into the last argument
            return given[-1].mul_(1.1)
        return tuple(1.1 * each for each in found) if isinstance(found, tuple) else 1.1 * found

    install(**{name: wrong})
    with pytest.warns(UserWarning, match=f"do not serve on cpu .*torch's from {said}"):
        assert not kernels_agree(CPU)
    with warnings.catch_warnings():  # said once
        warnings.simplefilter("error")
        assert not kernels_agree(CPU)


def test_numbers_that_are_none_do_not_serve(install: Any) -> None:
    install(recalled=lambda *given: recalled(*given) * torch.nan)
    with pytest.warns(UserWarning, match="the memory of a set"):
        assert not kernels_agree(CPU)


def test_a_kernel_that_does_not_compile_does_not_serve(install: Any) -> None:
    def fails(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("out of resource: shared memory\nRequired: 400000")

    install(recurred=fails)
    with pytest.warns(UserWarning, match=r"RuntimeError: out of resource: shared memory\)"):
        assert not kernels_agree(CPU)
