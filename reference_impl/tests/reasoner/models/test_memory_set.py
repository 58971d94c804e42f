"""The memory that is written as a set: autograd's steps, no order, less surprise."""

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.gates import Gates
from reference_reasoner.reasoner.models.memory.sequential import read_deep
from reference_reasoner.reasoner.models.memory.sets import set_memory
from reference_reasoner.reasoner.models.memory.state import DeepState, LinearState

from .memory_cases import (
    ROWS,
    VALUES,
    Case,
    assert_close,
    gradients,
    make_case,
    normal,
)
from .memory_oracle import set_oracle

SIZES = pytest.mark.parametrize("deep", [False, True])


def _state(tensors: list[Tensor]) -> LinearState | DeepState:
    if len(tensors) == 2:
        return LinearState(*tensors)
    return DeepState(*tensors, tensors[0] * torch.nan, tensors[2] * torch.nan)


def _run(case: Case, steps: int, mask: Tensor | None = None) -> list[Tensor]:
    read, state = set_memory(
        *case[:3], Gates(*case.gates), _state(case.state), steps=steps, mask=mask
    )
    return [read, *state[:4]]


def _mask() -> Tensor:
    mask = torch.ones(ROWS, 6, dtype=torch.bool)
    mask[0, 2:4] = mask[1, 5] = False
    return mask


@SIZES
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("kind", ["usual", "mixed", "keep", "forget"])
def test_values_and_gradients_are_those_of_autograd(
    kind: str, steps: int, masked: bool, deep: bool
) -> None:
    case = make_case(6, deep=deep, kind=kind, grad=True)
    mask = _mask() if masked else None
    read, state = set_oracle(*case[:3], case.gates, case.state, steps=steps, mask=mask)
    ours = _run(case, steps, mask)
    assert_close(ours, [read, *state])
    assert_close(gradients(case, ours), gradients(case, [read, *state]))


@SIZES
def test_without_momentum_all_is_finite(deep: bool) -> None:
    case = make_case(6, deep=deep, kind="no_momentum", grad=True)
    ours = _run(case, 2)
    assert all(x.isfinite().all() for x in [*ours, *gradients(case, ours)])
    still = make_case(6, deep=deep, kind="no_momentum")
    for momentum in still.state[1::2]:
        momentum.mul_(7)
    assert_close(_run(still, 2), ours)


@SIZES
def test_gradcheck(deep: bool) -> None:
    case = make_case(3, deep=deep, grad=True)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        read, state = set_memory(*leaves[:3], Gates(*leaves[3:7]), _state([*leaves[7:]]), steps=2)
        return read, *state[:4]

    assert torch.autograd.gradcheck(run, case.leaves()[: 11 if deep else 9])


@SIZES
def test_the_order_of_tokens_does_not_matter(deep: bool) -> None:
    case = make_case(6, deep=deep)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = case._replace(
        q=case.q[:, order], k=case.k[:, order], v=case.v[:, order],
        gates=[gate[:, order] for gate in case.gates],
    )  # fmt: skip
    read, *state = _run(case, 2, _mask())
    again, *same = _run(moved, 2, _mask()[:, order])
    assert_close([again, *same], [read[:, order], *state])


@SIZES
def test_what_is_masked_is_read_but_not_written(deep: bool) -> None:
    case = make_case(6, deep=deep)
    mask = _mask()
    before = _run(case, 2, mask)
    hidden = make_case(6, deep=deep)
    for x in (hidden.k, hidden.v, *hidden.gates):
        x[~mask] = torch.nan
    assert_close(_run(hidden, 2, mask), before, 0.0)
    assert before[0][0, 2].abs().max() > 0


@SIZES
def test_nothing_to_write_leaves_the_weights(deep: bool) -> None:
    case = make_case(6, deep=deep)
    mask = torch.zeros(ROWS, 6, dtype=torch.bool)
    assert_close(_run(case, 2, mask)[1::2], case.state[::2])
    empty = make_case(0, deep=deep)
    assert _run(empty, 2)[0].shape == (ROWS, 0, VALUES)
    assert_close(_run(empty, 2)[1::2], empty.state[::2])


@SIZES
def test_more_steps_lower_the_surprise(deep: bool) -> None:
    """At the largest step, theta = 1, with keys of length 1."""
    case = make_case(6, deep=deep, kind="no_momentum")
    case.gates[0].fill_(1.0)
    case.gates[1].zero_()
    case.gates[3].fill_(0.01)
    errors = []
    for steps in (1, 2, 4, 8, 16, 32):
        errors.append((_run(case._replace(q=case.k), steps)[0] - case.v).square().sum())
    assert (torch.stack(errors).diff() < 0).all()


@SIZES
def test_alike_keys_stay_finite(deep: bool) -> None:
    """100 steps of default gates on one pair, 900 times over.

    A deep memory keeps an error: W2 fits the first features, and the read uses the last ones.
    """
    case = make_case(1, deep=deep)
    for momentum in case.state[1::2]:
        momentum.zero_()
    wide = [x.expand(-1, 900, -1) for x in case[:3]]
    eta, alpha = torch.tensor([0.5, -5.0], dtype=torch.float64).sigmoid()
    numbers = (1 - eta, (1 - alpha).log(), eta.log(), 0.02 * (1 - eta))
    gates = Gates(*(x.expand(ROWS, 900) for x in numbers))
    read, _ = set_memory(wide[1], *wide[1:], gates, _state(case.state), steps=100)
    assert (read - wide[2]).norm() < (0.2 if deep else 0.05) * wide[2].norm()


def test_a_deep_state_can_be_read_again() -> None:
    case = make_case(6, deep=True)
    read, state = set_memory(*case[:3], Gates(*case.gates), _state(case.state))
    assert isinstance(state, DeepState)
    torch.testing.assert_close(read_deep(case.q, state), read)


def test_steps_must_be_positive() -> None:
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        _run(make_case(3, deep=False), 0)


def test_a_grid_of_one_pair_is_stored_in_one_step() -> None:
    """theta = 1 and a key of length 1: one step is the whole correction."""
    case = make_case(1, deep=False, kind="no_momentum")
    case.gates[0].fill_(1.0)
    case.gates[1].zero_()
    read, _, _ = _run(case._replace(q=case.k, v=normal(ROWS, 1, VALUES, seed=9)), 1)
    torch.testing.assert_close(read, normal(ROWS, 1, VALUES, seed=9))
