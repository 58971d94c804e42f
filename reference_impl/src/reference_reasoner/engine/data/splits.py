"""The three splits: decided once, written down, free of copies across them, of the right data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config.fields import require
from ..errors import RefusedInputError
from ..seeding import numpy_generator

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """Shares of the three splits."""

    seed: int = 0
    """Key of the split; not the run's seed, so that runs of many seeds share their test set."""
    train: float = 0.7
    """Share of the examples that are trained on."""
    validation: float = 0.15
    """Share that decides what is best."""
    test: float = 0.15
    """Share that is looked at once, at the end."""

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"data.split.seed must be at least 0, got {self.seed}")
        for name in SPLITS:
            value = getattr(self, name)
            require(0 < value < 1, f"data.split.{name} must be in (0, 1), got {value}")
        total = self.train + self.validation + self.test
        require(
            abs(total - 1) < 1e-9,
            f"data.split.train + validation + test must add up to 1, got {total:.6g}",
        )


def stratified_split(
    labels: NDArray[np.int64], config: SplitConfig, class_count: int
) -> dict[str, NDArray[np.int64]]:
    """{split: sorted indices}, each class shared out alike; int64 [n] each.

    `labels` is int64 [N] with values in [0, class_count). Raises RefusedInputError for a class
    with too few examples to stand in each split.
    """
    parts: dict[str, list[NDArray[np.int64]]] = {name: [] for name in SPLITS}
    for label in range(class_count):
        members = np.flatnonzero(labels == label)
        order = members[numpy_generator(config.seed, "split", label).permutation(len(members))]
        ends = [round(len(order) * config.train)]
        ends.append(round(len(order) * (config.train + config.validation)))
        for name, part in zip(SPLITS, np.split(order, ends), strict=True):
            if not len(part):
                raise RefusedInputError(
                    f"class {label} has {len(members)} examples, which leaves the {name} split "
                    "without one: add examples or change data.split"
                )
            parts[name].append(part)
    return {name: np.sort(np.concatenate(each)) for name, each in parts.items()}


def split_fingerprint(
    data_sha256: str, splits: Mapping[str, NDArray[np.int64]], preparation: Mapping[str, object]
) -> str:
    """sha256 over the data, which example is in which split, and how examples are prepared."""
    content = {
        "data": data_sha256,
        "preparation": dict(preparation),
        "splits": {name: indices.tolist() for name, indices in splits.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def store_split(
    folder: Path, name: str, fingerprint: str, splits: Mapping[str, NDArray[np.int64]]
) -> Path:
    """Write the split to `<folder>/<name>-<fingerprint>.json`, or check the one that is there.

    Raises RefusedInputError where that file says otherwise.
    """
    path = folder / f"{name}-{fingerprint[:12]}.json"
    content = {
        "fingerprint": fingerprint,
        "splits": {split: indices.tolist() for split, indices in splits.items()},
    }
    if path.exists():
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RefusedInputError(f"{path} cannot be read: {error}; remove it") from error
        if stored != content:
            raise RefusedInputError(
                f"{path} does not hold the split that its name says: it was changed; restore it "
                "or remove it"
            )
        return path
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return temporary.replace(path)


def sha256_of_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """sha256 over named arrays: name, dtype, shape and bytes of each, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{len(name)}:{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def verify_checksum(what: str, actual: str, expected: str) -> None:
    """Verify a data file's checksum: RefusedInputError unless both sums are equal."""
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
