"""The handwritten digits that come with scikit-learn: 1797 grey images of 8 x 8, 10 classes.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository (1998); the part of it that scikit-learn ships.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..engine.config.fields import require
from ..engine.data.dataset import Batch, Splits
from ..engine.data.splits import (
    SplitConfig,
    check_no_leakage,
    sha256_of_arrays,
    split_fingerprint,
    store_split,
    stratified_split,
    verify_checksum,
)
from ..engine.errors import RefusedInputError
from ..engine.project import project_root

CLASS_NAMES = tuple("0123456789")
SHA256 = "acbca1a51441897d8b26c91e17b47dc84d0de2cbf012f76f7748f8986b8204c1"


@dataclass(frozen=True, kw_only=True)
class DigitsDataConfig:
    """How the digits are split and prepared."""

    split: SplitConfig = SplitConfig()
    shift_pixels: int = 1
    """Training images are moved by up to so many pixels each way; 0 moves none."""

    def __post_init__(self) -> None:
        require(
            0 <= self.shift_pixels <= 3,
            f"data.shift_pixels must be in [0, 3], got {self.shift_pixels}",
        )


class Digits:
    """One split. An example: `image` float32 [1, 8, 8] in [0, 1], `label` int64, `example_id`."""

    def __init__(
        self,
        images: NDArray[np.float64],
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
        shift_pixels: int,
    ) -> None:
        scaled = torch.from_numpy(images[indices]).to(torch.float32) / 16
        self.images = scaled.reshape(-1, 1, 8, 8)
        self.labels = torch.from_numpy(labels[indices]).to(torch.int64)
        self.example_ids = torch.from_numpy(indices)
        self.shift_pixels = shift_pixels

    def __len__(self) -> int:
        return len(self.labels)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`, moved at random if there is a `generator`."""
        image = self.images[index]
        if generator is not None and self.shift_pixels:
            image = _moved(image, self.shift_pixels, generator)
        return {
            "example_id": self.example_ids[index],
            "image": image,
            "label": self.labels[index],
        }


def _moved(image: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """`image` [1, 8, 8] moved by up to `most` pixels each way, dark where it came from."""
    down, right = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    padded = torch.nn.functional.pad(image, (most, most, most, most))
    return padded[:, down : down + 8, right : right + 8]


def load_raw() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Images [1797, 8, 8] with values 0..16 and labels [1797].

    Raises RefusedInputError where they cannot be read or are not those that this file was
    written for.
    """
    try:
        from sklearn.datasets import load_digits

        raw = load_digits()
    except (ImportError, OSError, ValueError) as error:
        raise RefusedInputError(
            f"the digits of scikit-learn cannot be read: {error}; install scikit-learn again"
        ) from error
    images, labels = raw.images.astype(np.float64), raw.target.astype(np.int64)
    verify_checksum("the digits data set", _sha256(images, labels), SHA256)
    return images, labels


def _sha256(images: NDArray[np.float64], labels: NDArray[np.int64]) -> str:
    return sha256_of_arrays({"images": images, "labels": labels})


def load_digits_splits(config: DigitsDataConfig) -> Splits:
    """The three splits, stored below `data/splits/` and free of copies across them."""
    images, labels = load_raw()
    indices = stratified_split(labels, config.split, len(CLASS_NAMES))
    check_no_leakage(images, indices)
    preparation = {"scale": "x / 16", "shift_pixels": config.shift_pixels}
    fingerprint = split_fingerprint(_sha256(images, labels), indices, preparation)
    store_split(project_root() / "data" / "splits", "digits", fingerprint, indices)
    shifts = {"train": config.shift_pixels, "validation": 0, "test": 0}
    made = {name: Digits(images, labels, indices[name], shifts[name]) for name in shifts}
    return Splits(
        train=made["train"],
        validation=made["validation"],
        test=made["test"],
        fingerprint=fingerprint,
    )
