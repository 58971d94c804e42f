"""A kernel that fails or gives other numbers is found before it serves; these are torch's."""

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.gpu import linear_launch
from reference_reasoner.reasoner.models.memory.neural_memory import NeuralMemory
from reference_reasoner.reasoner.models.memory.sets import set_memory
from reference_reasoner.reasoner.models.memory.solve import TORCH, recurrence, substitution
from reference_reasoner.reasoner.models.serving import (
    fused_step,
    fused_step_launch,
    set_launch,
)

from .step_kernels import attend_next, recall_next

CPU = torch.device("cpu")


def recalled(pairs: Tensor, logits: Tensor, memory: NeuralMemory) -> Tensor:
    """What the kernel does, in torch."""
    gates = memory.gates.of_logits(logits)
    read, _ = set_memory(*memory.heads(pairs), gates, memory.initial_state(len(pairs)))
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


CHECKS: dict[str, tuple[Any, ModuleType, str]] = {
    "substituted": (linear_launch.substitution_agrees, linear_launch, "substitution"),
    "recurred": (linear_launch.recurrence_agrees, linear_launch, "the recurrence"),
    "recalled": (set_launch.set_kernel_agrees, set_launch, "the memory of a set"),
    "attend_next": (fused_step.step_kernels_agree, fused_step_launch, "a decoded token"),
    "recall_next": (fused_step.step_kernels_agree, fused_step_launch, "a decoded token"),
}
"""{kernel: (what asks whether it gives torch's numbers, its module, what a warning calls it)}"""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts torch's own sums in the place of the kernels, but for what a test changes."""

    def installed(**changes: Any) -> None:
        for name, kernel in {**KERNELS, **changes}.items():
            monkeypatch.setattr(CHECKS[name][1], name, kernel)
        forget()

    def forget() -> None:
        for agrees, *_ in CHECKS.values():
            agrees.cache_clear()

    yield installed
    forget()


def test_right_kernels_serve(install: Any) -> None:
    install()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(agrees(CPU) for agrees, *_ in CHECKS.values())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", CHECKS)
def test_a_kernel_of_other_numbers_does_not_serve_and_the_others_do(
    install: Any, name: str
) -> None:
    def wrong(*given: Any, **how: Any) -> Any:
        found = KERNELS[name](*given, **how)
        if found is None:  # it has written into the last argument
            return given[-1].mul_(1.1)
        return tuple(1.1 * each for each in found) if isinstance(found, tuple) else 1.1 * found

    install(**{name: wrong})
    agrees, _, said = CHECKS[name]
    with pytest.warns(UserWarning, match=f"not serve on cpu .*torch's from {said}"):
        assert not agrees(CPU)
    with warnings.catch_warnings():  # said once, and of no other
        warnings.simplefilter("error")
        assert {other(CPU) for other, *_ in CHECKS.values() if other is not agrees} == {True}
        assert not agrees(CPU)


def test_numbers_that_are_none_do_not_serve(install: Any) -> None:
    install(recalled=lambda *given: recalled(*given) * torch.nan)
    with pytest.warns(UserWarning, match="the memory of a set"):
        assert not set_launch.set_kernel_agrees(CPU)


def test_a_kernel_that_does_not_compile_does_not_serve(install: Any) -> None:
    def fails(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("out of resource: shared memory\nRequired: 400000")

    install(recurred=fails)
    with pytest.warns(UserWarning, match=r"RuntimeError: out of resource: shared memory\)"):
        assert not linear_launch.recurrence_agrees(CPU)


def test_sums_are_kernels_only_where_each_agrees(
    install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(recurred=lambda *given, **how: [x + 1 for x in recurrence(*given, **how)])
    monkeypatch.setattr(linear_launch, "kernels_may_serve", lambda x: True)
    x = torch.zeros(1, 4, 32)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = linear_launch.sums_for(x, x)
    assert found == (linear_launch.substituted, recurrence)
    assert "the kernel of the recurrence does not serve" in str(warned[0].message)
    monkeypatch.setattr(linear_launch, "kernels_may_serve", lambda x: False)
    assert linear_launch.sums_for(x, x) == TORCH
