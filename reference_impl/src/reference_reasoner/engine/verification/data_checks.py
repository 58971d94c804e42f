"""Checks of the data: order, augmentation, loader workers, fingerprint, leakage."""

import contextlib
import random
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Batch
from ..data.loader import indices_of_step, training_batches
from ..seeding import torch_generator
from ..training.checkpoint import weights_sha256
from .doctor import Check, Examination, make_checks, require

_FEW = 32
"""Examples of each split that are made more than once."""


def checks_of_data(exam: Examination) -> list[Check]:
    """The doctor's checks of the data: order, augmentation, workers, fingerprint and leakage."""
    table = {
        "order": (_order, "tests/engine/data/test_sampler.py"),
        "augmentation": (_augmentation, "`doctor`"),
        "workers": (_workers, "tests/engine/training/test_intervals.py"),
        "data version": (_version, "tests/engine/data/test_splits.py"),
        "leakage": (_leakage, "tests/engine/data/test_integrity.py"),
    }
    return make_checks(exam, table)


def _order(exam: Examination) -> str:
    count, size = len(exam.splits.train), exam.config.training.batch_size
    drawn = [
        pair
        for step in range(1, 2 * count // size + 2)
        for pair in indices_of_step(step, examples=count, batch_size=size, seed=exam.config.seed)
    ]
    orders = [[index for which, index in drawn[: 2 * count] if which == epoch] for epoch in (0, 1)]
    for epoch, order in enumerate(orders):
        permuted = sorted(order) == list(range(count))
        require(permuted, f"epoch {epoch} is no permutation of the examples")
    require(count < 3 or orders[0] != orders[1], "two epochs have the same order")
    return f"each of {count} examples once an epoch, in another order each time"


@contextlib.contextmanager
def _disturbed(seed: int) -> Iterator[None]:
    """Seed every global random generator anew inside, to check whether the data draw from one."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def _unequal(one: Batch, two: Batch) -> str:
    """The names of the data fields that a check finds unequal in two examples or batches."""
    return ", ".join(name for name in one if not torch.equal(_bits(one[name]), _bits(two[name])))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _augmentation(exam: Examination) -> str:
    parts = {"train": exam.splits.train, "validation": exam.splits.validation}
    for split, dataset in parts.items():
        for index, keyed in product(range(min(_FEW, len(dataset))), (True, False)):
            made = []
            for state in (1, 2):
                key = (exam.config.seed, "augment", 0, index)
                generator = torch_generator(*key) if keyed else None
                with _disturbed(state):
                    made.append(dataset.example(index, generator))
            unequal = _unequal(*made)
            require(
                not unequal,
                f"example {index} of the {split} split differs from call to call in {unequal}: "
                "draw from the generator that example() is given",
            )
    return f"{_FEW} examples of each split are a function of their key alone"


def _workers(exam: Examination) -> str:
    batches = []
    for workers in (0, 2):
        loader = training_batches(
            exam.splits.train,
            batch_size=exam.config.training.batch_size,
            seed=exam.config.seed,
            first_step=1,
            last_step=4,
            workers=workers,
        )
        with contextlib.closing(loader), _disturbed(workers):
            batches.append(list(loader))
    for step, (one, two) in enumerate(zip(*batches, strict=True), start=1):
        unequal = _unequal(one, two)
        require(
            not unequal,
            f"the batch of step {step} depends on the number of loader workers, in {unequal}",
        )
    return "4 batches are the same with 0 and 2 loader workers"


def _version(exam: Examination) -> str:
    now = exam.splits.fingerprint
    again = exam.task.datasets().fingerprint
    require(now == again, f"two loads have the fingerprints {now[:12]} and {again[:12]}")
    task = exam.task_of_run()
    if task is None or exam.run is None:
        return f"fingerprint {now[:12]} twice; no run to compare it with"
    was, own = exam.run.data["data_fingerprint"], task.datasets().fingerprint
    name = exam.run.run_dir.name
    require(was == own, f"{name} was trained on {was[:12]}, and its config now gives {own[:12]}")
    return f"fingerprint {own[:12]}, as in {name}"


def _leakage(exam: Examination) -> str:
    splits = exam.splits
    seen: dict[str, tuple[str, int]] = {}
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, dataset in parts.items():
        for index in range(len(dataset)):
            example = dict(dataset.example(index, None))
            identity = int(example.pop("example_id", index))
            other, copy = seen.setdefault(weights_sha256(example), (name, identity))
            require(
                other == name,
                f"example {identity} of the {name} split is the same as example {copy} of the "
                f"{other} split: keep copies in one split",
            )
    return f"{sum(map(len, parts.values()))} examples, none in two splits"
