"""The head learns what is right, sees the whole state, and stops the rows that it should."""

import math

import pytest
import torch
from torch import Tensor

from reference_reasoner.reasoner.models.act_head import (
    HaltingConfig,
    HaltingHead,
    exploration_minimum,
    halting_loss,
    hazard_kl,
    leaves_training,
    right_at,
    run_until_halted,
    stops_at,
    tuned_threshold,
)

WIDTH = 5


def states(rows: int = 3, tokens: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(rows, tokens, WIDTH, generator=generator)


@pytest.mark.parametrize(("pool", "count"), [("mean_min", 2 * WIDTH + 1), ("first", 2 * WIDTH + 2)])
def test_nothing_is_thought_right_at_first(pool: str, count: int) -> None:
    head = HaltingHead(WIDTH, HaltingConfig(pool=pool, initial_bias=-4.0))
    assert sum(parameter.numel() for parameter in head.parameters()) == count
    assert torch.equal(head(states()), torch.full((3,), -4.0))
    assert head.bfloat16()(states().bfloat16()).dtype == torch.float32
    assert head.double()(states().double()).dtype == torch.float64


def test_the_head_sees_every_token_or_the_first() -> None:
    for pool, seen in (("mean_min", 4), ("first", 1)):
        head = HaltingHead(WIDTH, HaltingConfig(pool=pool))
        torch.nn.init.ones_(head.linear.weight)
        given = states().requires_grad_(True)
        head(given).sum().backward()
        assert given.grad is not None
        assert (given.grad.abs().sum(-1) > 0).sum(1).tolist() == [seen] * 3


def test_the_head_has_a_gradient_and_learns() -> None:
    torch.manual_seed(0)
    head = HaltingHead(WIDTH, HaltingConfig())
    given = torch.randn(64, 4, WIDTH)
    right = given[:, :, 0].mean(1) > 0
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for step in range(150):
        optimizer.zero_grad()
        halting_loss(head(given), right).backward()
        if step == 0:
            assert head.linear.weight.grad is not None
            assert head.linear.weight.grad.abs().sum() > 0
        optimizer.step()
    assert ((head(given) > 0) == right).float().mean() > 0.95


def test_the_loss_is_a_sum_over_rows() -> None:
    logit = torch.tensor([0.3, -1.2])
    right = torch.tensor([True, False])
    expected = -math.log(1 / (1 + math.exp(-0.3))) - math.log(1 - 1 / (1 + math.exp(1.2)))
    assert halting_loss(logit, right).item() == pytest.approx(expected)


def test_exploration_is_rare_and_asks_for_at_least_two_steps() -> None:
    config = HaltingConfig(max_steps=16, exploration=0.1)
    generator = torch.Generator().manual_seed(0)
    minimum = exploration_minimum(20_000, config, generator)
    assert minimum.dtype == torch.int64
    assert (minimum > 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    some = minimum[minimum > 0]
    assert (some.min(), some.max()) == (2, 16)
    assert some.float().mean().item() == pytest.approx(9, abs=0.3)
    never = HaltingConfig(exploration=0.0)
    assert not exploration_minimum(100, never, generator).any()
    once = HaltingConfig(max_steps=1, exploration=1.0)
    assert exploration_minimum(5, once, generator).tolist() == [1] * 5


def test_who_leaves_in_training() -> None:
    config = HaltingConfig(max_steps=3)
    logit = torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0])
    steps = torch.tensor([1, 1, 1, 3, 2])
    minimum = torch.tensor([0, 2, 0, 0, 2])
    leaves = leaves_training(logit, steps, minimum, config)
    assert leaves.tolist() == [True, False, False, True, True]


# --- The diversity regulariser ----------------------------------------------------------------

DIVERSE = HaltingConfig(diversity_weight=0.05, prior_hazard=0.3)


def kl(hazard: float, prior: float) -> float:
    return hazard * math.log(hazard / prior) + (1 - hazard) * math.log((1 - hazard) / (1 - prior))


def test_the_hazard_kl_by_hand() -> None:
    logit = torch.tensor([0.5, -0.5, 2.0], dtype=torch.float64)
    steps = torch.tensor([1, 1, 4])
    first = (1 / (1 + math.exp(-0.5)) + 1 / (1 + math.exp(0.5))) / 2
    last = 1 / (1 + math.exp(-2.0))
    expected = 2 / 3 * kl(first, 0.3) + 1 / 3 * kl(last, 0.3)
    assert hazard_kl(logit, steps, DIVERSE).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("same", [-6.0, 0.0, 6.0])
def test_its_gradient_is_not_zero_where_all_rows_agree(same: float) -> None:
    logit = torch.full((8,), same, requires_grad=True)
    hazard_kl(logit, torch.ones(8, dtype=torch.int64), DIVERSE).backward()
    assert logit.grad is not None
    prior = math.log(0.3 / 0.7)
    assert torch.equal(logit.grad.sign(), torch.full((8,), math.copysign(1.0, same - prior)))


def test_it_is_zero_at_the_prior_and_finite_at_the_ends() -> None:
    steps = torch.ones(4, dtype=torch.int64)
    at_prior = torch.full((4,), math.log(0.3 / 0.7), dtype=torch.float64)
    assert hazard_kl(at_prior, steps, DIVERSE).item() == pytest.approx(0, abs=1e-12)
    for end in (-200.0, 200.0):
        logit = torch.full((4,), end, requires_grad=True)
        value = hazard_kl(logit, steps, DIVERSE)
        value.backward()
        assert value.isfinite()
        assert logit.grad is not None
        assert logit.grad.isfinite().all()


# --- Early exit -------------------------------------------------------------------------------


class Script:
    """Outputs [row, step] and logits from a table [B, steps]; notes the rows of each call."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.calls: list[list[int]] = []

    def __call__(self, state: tuple[Tensor, int]) -> tuple[tuple[Tensor, int], Tensor, Tensor]:
        rows, step = state
        self.calls.append(rows.tolist())
        output = torch.stack([rows, torch.full_like(rows, step + 1)], -1)
        return (rows, step + 1), output, self.table[rows, step]


def keep(state: tuple[Tensor, int], rows: Tensor) -> tuple[Tensor, int]:
    return state[0][rows], state[1]


TABLE = torch.tensor([[-9.0, -9.0, -9.0], [-9.0, 9.0, -9.0], [9.0, -9.0, -9.0], [-9.0, 9.0, 9.0]])


def test_each_row_gives_its_output_of_the_step_at_which_it_was_sure() -> None:
    script = Script(TABLE)
    told = run_until_halted(script, (torch.arange(4), 0), keep, threshold=0.7, max_steps=3)
    assert told.steps.tolist() == [3, 2, 1, 2]
    assert told.output.tolist() == [[0, 3], [1, 2], [2, 1], [3, 2]]
    assert told.logit.tolist() == [-9.0, 9.0, 9.0, 9.0]
    assert script.calls == [[0, 1, 2, 3], [0, 1, 3], [0]]


def test_all_sure_at_once_is_one_call() -> None:
    script = Script(torch.full((2, 3), 9.0))
    told = run_until_halted(script, (torch.arange(2), 0), keep, threshold=0.5, max_steps=3)
    assert told.steps.tolist() == [1, 1]
    assert len(script.calls) == 1


def test_filling_up_the_batch_changes_no_result() -> None:
    stops_at = torch.tensor([5, 1, 2, 2, 5, 3, 1, 4, 5, 1, 3])
    table = torch.where(stops_at[:, None] == torch.arange(1, 6), 9.0, -9.0)
    table += torch.rand(11, 5, generator=torch.Generator().manual_seed(0))
    sizes, found = {}, {}
    for compaction in ("exact", "powers_of_two", "none"):
        script = Script(table)
        found[compaction] = run_until_halted(
            script,
            (torch.arange(11), 0),
            keep,
            threshold=0.9,
            max_steps=5,
            compaction=compaction,
        )
        sizes[compaction] = [len(rows) for rows in script.calls]
    assert sizes == {
        "exact": [11, 8, 6, 4, 3],
        "powers_of_two": [11, 8, 8, 4, 4],
        "none": [11] * 5,
    }
    assert found["exact"].steps.tolist() == stops_at.tolist()
    for other in ("powers_of_two", "none"):
        for one, same in zip(found["exact"], found[other], strict=True):
            assert torch.equal(one, same)


def test_no_step_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        run_until_halted(Script(TABLE), (torch.arange(4), 0), keep, threshold=0.5, max_steps=0)


def test_the_lowest_threshold_that_loses_no_row() -> None:
    # row 0 is sure (p .62) and wrong at step 1, right later; row 1 is right from the start
    logits = torch.tensor([[0.5, 3.0], [3.0, 3.0]])
    right = torch.tensor([[False, True], [True, True]])
    assert right_at(0.5, logits, right).tolist() == [False, True]
    assert right_at(0.7, logits, right).tolist() == [True, True]
    assert stops_at(0.7, logits).tolist() == [1, 0]
    assert tuned_threshold(logits, right, most_lost=0.0) == pytest.approx(0.65)
    assert tuned_threshold(logits, right, most_lost=0.5) == pytest.approx(0.05)
    nearly = torch.tensor([[4.0, 9.0], [9.0, 9.0]])  # p .982 of the wrong one
    assert tuned_threshold(nearly, right, most_lost=0.0) == 0.99
    sure = torch.full((2, 2), 99.0)
    assert tuned_threshold(sure, right, most_lost=0.0) == 1.0


def test_a_row_that_stopping_saves_makes_up_for_none_that_it_loses() -> None:
    logits = torch.tensor([[0.5, 3.0], [3.0, 3.0]])
    right = torch.tensor([[False, True], [True, False]])  # row 1 is right at step 1 only
    assert tuned_threshold(logits, right, most_lost=0.0) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"exploration": 1.5}, r"exploration must be in \[0, 1\], got 1\.5"),
        ({"prior_hazard": -0.1}, r"prior_hazard must be in \[0, 1\]"),
        ({"prior_hazard": 1.0, "diversity_weight": 0.1}, r"must be in \(0, 1\), got 1\.0"),
        ({"diversity_weight": -1.0}, "diversity_weight must be at least 0"),
    ],
)
def test_what_cannot_be_is_refused(field: dict[str, float], value: str) -> None:
    with pytest.raises(ValueError, match=value):
        HaltingConfig(**field)
