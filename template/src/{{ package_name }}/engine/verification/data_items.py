"""Items about the data: order, randomness, workers, fingerprint, leakage."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Batch, Dataset
from ..data.loader import training_batches
from ..data.sampler import indices_of_step
from ..seeding import torch_generator
from ..training.hashing import weights_sha256
from .examination import Examination
from .items import FailedError, Item, require

_FEW = 32
"""Examples of each split that are made more than once."""
_PROOF = "tests/data"


def data_items(exam: Examination) -> list[Item]:
    """The items about the data."""
    return [
        Item(name="order", proof=f"{_PROOF}/test_sampler.py", check=lambda: _order(exam)),
        Item(name="augmentation", proof="`doctor`", check=lambda: _augmentation(exam)),
        Item(
            name="workers", proof="tests/training/test_intervals.py", check=lambda: _workers(exam)
        ),
        Item(name="data version", proof=f"{_PROOF}/test_splits.py", check=lambda: _version(exam)),
        Item(name="leakage", proof=f"{_PROOF}/test_integrity.py", check=lambda: _leakage(exam)),
    ]


def _order(exam: Examination) -> str:
    count, size = len(exam.splits.train), exam.config.training.batch_size
    drawn = [
        pair
        for step in range(1, 2 * count // size + 2)
        for pair in indices_of_step(step, examples=count, batch_size=size, seed=exam.config.seed)
    ]
    for epoch in (0, 1):
        indices = sorted(index for which, index in drawn[: 2 * count] if which == epoch)
        require(indices == list(range(count)), f"epoch {epoch} is no permutation of the examples")
    orders = [[index for which, index in drawn if which == epoch] for epoch in (0, 1)]
    require(count < 3 or orders[0] != orders[1][:count], "two epochs have the same order")
    return f"each of {count} examples once an epoch, in another order each time"


@contextlib.contextmanager
def _disturbed(seed: int) -> Iterator[None]:
    """Other states of every global generator inside; the old ones afterwards."""
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


def _equal(one: Batch, two: Batch) -> list[str]:
    return [name for name in one if not torch.equal(_bits(one[name]), _bits(two[name]))]


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _augmentation(exam: Examination) -> str:
    seed = exam.config.seed
    parts = {"train": exam.splits.train, "validation": exam.splits.validation}
    for split, dataset in parts.items():
        for index in range(min(_FEW, len(dataset))):
            for keyed in (True, False):
                made = []
                for state in (1, 2):
                    generator = torch_generator(seed, "augment", 0, index) if keyed else None
                    with _disturbed(state):
                        made.append(dataset.example(index, generator))
                unequal = _equal(*made)
                if unequal:
                    raise FailedError(
                        f"example {index} of the {split} split differs from call to call in "
                        f"{', '.join(unequal)}: draw from the generator that example() is given"
                    )
    return f"{_FEW} examples of each split are a function of their key alone"


def _workers(exam: Examination) -> str:
    training = exam.config.training
    batches = []
    for workers in (0, 2):
        loader = training_batches(
            exam.splits.train,
            batch_size=training.batch_size,
            seed=exam.config.seed,
            first_step=1,
            last_step=4,
            workers=workers,
        )
        with contextlib.closing(loader), _disturbed(workers):
            batches.append(list(loader))
    for step, (one, two) in enumerate(zip(*batches, strict=True), start=1):
        unequal = _equal(one, two)
        if unequal:
            raise FailedError(
                f"the batch of step {step} depends on the number of loader workers, in "
                f"{', '.join(unequal)}"
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


def _contents(dataset: Dataset) -> Iterator[tuple[int, str]]:
    for index in range(len(dataset)):
        example = dataset.example(index, None)
        identity = int(example["example_id"]) if "example_id" in example else index
        yield identity, weights_sha256({k: v for k, v in example.items() if k != "example_id"})


def _leakage(exam: Examination) -> str:
    splits = exam.splits
    seen: dict[str, tuple[str, int]] = {}
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    for name, dataset in parts.items():
        for identity, content in _contents(dataset):
            other, copy = seen.setdefault(content, (name, identity))
            if other != name:
                raise FailedError(
                    f"example {identity} of the {name} split is the same as example {copy} of "
                    f"the {other} split: keep copies in one split"
                )
    return f"{sum(map(len, parts.values()))} examples, none in two splits"
