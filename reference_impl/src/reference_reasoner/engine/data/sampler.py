"""Which examples a step sees: a pure function of the step.

The epochs follow one another without a gap: the batch that ends an epoch is filled up with the
first examples of the next one, so that every batch is full and every example comes exactly
once an epoch.
"""

from functools import lru_cache

import numpy as np

from ..seeding import numpy_generator


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
