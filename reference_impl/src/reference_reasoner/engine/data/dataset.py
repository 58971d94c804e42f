"""What a data set is: examples by index, and the three splits of a task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Batch = dict[str, Tensor]
"""Named tensors whose first dimension is the batch."""


class Dataset(Protocol):
    """A map-style data set whose example may be augmented from a generator of its own."""

    def __len__(self) -> int: ...

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`; tensors without a batch dimension, `example_id` (int64) among them.

        `generator` is keyed by (seed, epoch, index) in training and None in evaluation, where
        nothing is augmented.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The three parts of a task's data, and the fingerprint of all of them."""

    train: Dataset
    validation: Dataset
    test: Dataset
    fingerprint: str
    """sha256 over the raw data, how it is split and how it is prepared."""


def collate(examples: Sequence[Batch]) -> Batch:
    """Stack examples along a new first dimension."""
    return {name: torch.stack([example[name] for example in examples]) for name in examples[0]}
