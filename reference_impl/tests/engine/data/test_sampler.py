"""The order of the examples: each exactly once an epoch, wherever a run was cut."""

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_reasoner.engine.data import loader as sampler
from reference_reasoner.engine.data.loader import indices_of_step


def _pairs(
    first: int, last: int, *, examples: int, batch_size: int, seed: int
) -> list[tuple[int, int]]:
    """What one call of `train` sees, which starts with nothing in memory."""
    sampler._order.cache_clear()
    found = []
    for step in range(first, last + 1):
        batch = indices_of_step(step, examples=examples, batch_size=batch_size, seed=seed)
        assert len(batch) == batch_size
        found += batch
    return found


@given(
    examples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    steps=st.integers(1, 25),
    cut=st.integers(0, 25),
    seed=st.integers(0, 5),
)
@settings(deadline=None, derandomize=True)
def test_each_epoch_holds_each_example_once_wherever_the_run_was_cut(
    examples: int, batch_size: int, steps: int, cut: int, seed: int
) -> None:
    shape = {"examples": examples, "batch_size": batch_size, "seed": seed}
    whole = _pairs(1, steps, **shape)
    cut = min(cut, steps)
    assert _pairs(1, cut, **shape) + _pairs(cut + 1, steps, **shape) == whole

    for start in range(0, len(whole), examples):
        epoch = whole[start : start + examples]
        assert {number for number, _ in epoch} == {start // examples}
        seen = [index for _, index in epoch]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(examples))
        if len(seen) == examples:
            assert sorted(seen) == list(range(examples))


def test_a_step_knows_nothing_of_the_steps_before_it() -> None:
    shape = {"examples": 7, "batch_size": 3, "seed": 0}
    forward = [indices_of_step(step, **shape) for step in range(1, 20)]
    backward = [indices_of_step(step, **shape) for step in range(19, 0, -1)]
    assert forward == backward[::-1]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(index for _, index in indices_of_step(step, examples=20, batch_size=20, seed=seed))
        for step in (1, 2, 3)
        for seed in (0, 1)
    }
    assert len(orders) == 6


def test_the_size_of_the_batch_does_not_change_the_order() -> None:
    small = _pairs(1, 12, examples=9, batch_size=2, seed=3)
    assert small == _pairs(1, 4, examples=9, batch_size=6, seed=3)
