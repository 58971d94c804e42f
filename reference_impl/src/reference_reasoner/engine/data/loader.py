"""The loader: which examples a step sees, and batches of them; how many processes changes nothing.

Which examples a step sees is a pure function of the step. The epochs follow one another without a
gap: the batch that ends an epoch is filled up with the first examples of the next one, so that
every batch is full and every example comes exactly once an epoch. An example of training draws
from a generator keyed by (seed, epoch, index), and the loader has a generator of its own, so that
nothing here touches the global ones.
"""

import os
import signal
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import DataLoader

from ..errors import RefusedInputError
from ..seeding import numpy_generator, torch_generator
from .dataset import Batch, Dataset, collate


@dataclass(frozen=True, kw_only=True)
class StepBatches:
    """A map-style data set whose item `i` is the whole batch of step `first_step + i`."""

    dataset: Dataset
    batch_size: int
    seed: int
    first_step: int
    last_step: int

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step + 1)

    def __getitem__(self, item: int) -> Batch:
        pairs = indices_of_step(
            self.first_step + item,
            examples=len(self.dataset),
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return collate(
            [
                self.dataset.example(index, torch_generator(self.seed, "augment", epoch, index))
                for epoch, index in pairs
            ]
        )


def training_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    workers: int,
) -> Generator[Batch, None, None]:
    """One full batch a step, from `first_step` to `last_step`; closing it ends the workers.

    There are `workers` of them, but no more than CPUs that this process may use.
    Raises RefusedInputError for a data set without examples.
    """
    if not len(dataset):
        raise RefusedInputError("the training split holds no example: give it a larger share")
    batches = StepBatches(
        dataset=dataset,
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        last_step=last_step,
    )
    workers = min(workers, _cpus())
    loader: DataLoader[Batch] = DataLoader(
        batches,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_start_worker if workers else None,
    )
    yield from loader


def _cpus() -> int:
    """CPUs that this process may run on; not every system tells which, and then all there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _start_worker(worker: int) -> None:
    # a Ctrl-C reaches every process of the terminal: the trainer decides when workers end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def evaluation_batches(dataset: Dataset, batch_size: int) -> Iterator[Batch]:
    """The examples in order, nothing augmented; the last batch holds what is left."""
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        yield collate([dataset.example(index, None) for index in indices])


def indices_of_step(
    step: int, *, examples: int, batch_size: int, seed: int
) -> list[tuple[int, int]]:
    """The (epoch, index) pairs of step `step`, which counts from 1; `batch_size` of them."""
    first = (step - 1) * batch_size
    pairs = []
    for position in range(first, first + batch_size):
        epoch, place = divmod(position, examples)
        pairs.append((epoch, int(_order(seed, epoch, examples)[place])))
    return pairs


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, examples: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    order: np.ndarray[tuple[int], np.dtype[np.int64]]
    order = numpy_generator(seed, "order", epoch).permutation(examples)
    return order
