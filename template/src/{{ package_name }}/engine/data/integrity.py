"""Is the data what it is said to be, and is nothing of the test in the training?"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RefusedInputError


def sha256_of_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """sha256 over named arrays: name, dtype, shape and bytes of each, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{len(name)}:{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def verify_checksum(what: str, actual: str, expected: str) -> None:
    """Raise RefusedInputError unless the two sums are equal."""
    if actual != expected:
        raise RefusedInputError(
            f"{what} has the sha256 {actual[:16]}..., expected {expected[:16]}...: it is damaged "
            "or another version; get it again"
        )


def identical_groups(examples: NDArray[np.generic]) -> NDArray[np.int64]:
    """For each row of `examples` [N, ...] the index of the first row that equals it; int64 [N]."""
    first: dict[bytes, int] = {}
    keys = [np.ascontiguousarray(row).tobytes() for row in examples]
    return np.array([first.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)


Place = tuple[str, int]
"""The name of a split, and the index of an example in the whole data."""


def in_two_splits(
    groups: NDArray[np.integer[Any]], splits: Mapping[str, NDArray[np.int64]]
) -> tuple[Place, Place] | None:
    """The first example whose group stands in an earlier split, and the place of that; or None.

    `groups` [N] are equal for examples that are the same.
    """
    owner: dict[int, Place] = {}
    for name, indices in splits.items():
        for index in indices.tolist():
            other, copy = owner.setdefault(int(groups[index]), (name, index))
            if other != name:
                return (name, index), (other, copy)
    return None


def check_no_leakage(
    examples: NDArray[np.generic], splits: Mapping[str, NDArray[np.int64]]
) -> None:
    """Raise RefusedInputError if an example, or an exact copy of it, stands in two splits."""
    found = in_two_splits(identical_groups(examples), splits)
    if found is not None:
        (name, index), (other, copy) = found
        raise RefusedInputError(
            f"example {index} of the {name} split is the same as example {copy} of the "
            f"{other} split: keep copies in one split"
        )
