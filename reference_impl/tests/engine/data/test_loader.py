"""Batches: the same with and without worker processes, and nothing drawn from elsewhere."""

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from reference_reasoner.engine.data import loader
from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.data.loader import evaluation_batches, training_batches
from reference_reasoner.engine.errors import RefusedInputError

from ..toy.task import ToyDataset

DATASET = ToyDataset("train", 10, 0.1)


def _batches(first: int, last: int, **changes: Any) -> list[Batch]:
    given: dict[str, Any] = {"batch_size": 4, "seed": 0, "workers": 0}
    given |= changes
    return list(training_batches(DATASET, first_step=first, last_step=last, **given))


def _equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


def _global_state() -> tuple[Any, ...]:
    kind, numbers, *rest = np.random.get_state()
    state = torch.get_rng_state().tolist()
    return random.getstate(), kind, np.asarray(numbers).tolist(), rest, state


def test_two_workers_give_the_same_batches_as_none_and_draw_nothing() -> None:
    before = _global_state()
    none = _batches(1, 7)
    assert _global_state() == before
    two = _batches(1, 7, workers=2)
    assert _global_state() == before
    assert _equal(none, two)


def test_a_batch_belongs_to_its_step_wherever_the_run_began() -> None:
    assert _equal(_batches(1, 7), _batches(1, 3) + _batches(4, 7))
    assert _equal(_batches(4, 6, workers=1), _batches(1, 6)[3:])


def test_every_batch_is_full_and_an_epoch_holds_every_example() -> None:
    batches = _batches(1, 5)
    assert [len(batch["example_id"]) for batch in batches] == [4] * 5
    seen = torch.cat([batch["example_id"] for batch in batches]).tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_augmentation_depends_on_seed_epoch_and_example() -> None:
    def points(**changes: Any) -> dict[int, torch.Tensor]:
        batch = _batches(1, 1, batch_size=10, **changes)[0]
        return dict(zip(batch["example_id"].tolist(), batch["point"], strict=True))

    first, again, other = points(), points(), points(seed=1)
    second_epoch = _batches(2, 2, batch_size=10)[0]
    position = second_epoch["example_id"].tolist().index(0)
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0], second_epoch["point"][position])
    assert not torch.equal(first[0], DATASET.points[0])


def test_no_steps_left_is_no_batch() -> None:
    assert _batches(5, 4) == []


@pytest.mark.parametrize(("cpus", "there"), [(2, 2), (1, 1)])
def test_closing_ends_the_workers_of_which_each_has_a_cpu(
    monkeypatch: pytest.MonkeyPatch, cpus: int, there: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)), raising=False)
    batches = training_batches(DATASET, batch_size=4, seed=0, first_step=1, last_step=9, workers=2)
    next(batches)
    assert len(multiprocessing.active_children()) == there
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_worker_leaves_signals_to_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    loader._start_worker(0)
    assert handlers == {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_DFL}


def test_an_empty_data_set_is_refused() -> None:
    batches = training_batches(
        ToyDataset("train", 0, 0.1), batch_size=4, seed=0, first_step=1, last_step=2, workers=0
    )
    with pytest.raises(RefusedInputError, match="holds no example"):
        next(batches)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
def test_evaluation_takes_every_example_once_in_order(batch_size: int) -> None:
    before = _global_state()
    batches: Iterator[Batch] = evaluation_batches(DATASET, batch_size)
    found = list(batches)
    assert torch.cat([batch["example_id"] for batch in found]).tolist() == list(range(10))
    assert torch.equal(torch.cat([batch["point"] for batch in found]), DATASET.points)
    assert all(len(batch["label"]) == batch_size for batch in found[:-1])
    assert _global_state() == before
