"""Splits: stratified, written down once, and refused where they cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.data.splits import (
    SPLITS,
    SplitConfig,
    split_fingerprint,
    store_split,
    stratified_split,
)
from reference_reasoner.engine.errors import RefusedInputError

PARTS = {
    "train": np.array([0, 2], dtype=np.int64),
    "validation": np.array([1], dtype=np.int64),
    "test": np.array([3], dtype=np.int64),
}


def _labels(*counts: int) -> NDArray[np.int64]:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    return np.random.default_rng(0).permutation(labels)


@given(
    counts=st.lists(st.integers(12, 60), min_size=1, max_size=5),
    train=st.sampled_from([0.5, 0.6, 0.7]),
    seed=st.integers(0, 5),
)
@settings(deadline=None, derandomize=True)
def test_each_class_is_shared_out_alike_and_nothing_is_lost(
    counts: list[int], train: float, seed: int
) -> None:
    labels = _labels(*counts)
    rest = (1 - train) / 2
    config = SplitConfig(train=train, validation=rest, test=rest, seed=seed)
    splits = stratified_split(labels, config, len(counts))
    assert tuple(splits) == SPLITS
    together = np.concatenate(list(splits.values()))
    assert sorted(together.tolist()) == list(range(len(labels)))
    for name, indices in splits.items():
        assert np.all(np.diff(indices) > 0)
        for label, count in enumerate(counts):
            got = int((labels[indices] == label).sum())
            assert abs(got - count * getattr(config, name)) <= 1


def test_the_split_depends_on_its_seed_only() -> None:
    labels = _labels(30, 40)
    first = stratified_split(labels, SplitConfig(), 2)
    again = stratified_split(labels, SplitConfig(), 2)
    other = stratified_split(labels, SplitConfig(seed=1), 2)
    assert all(np.array_equal(first[name], again[name]) for name in SPLITS)
    assert not np.array_equal(first["test"], other["test"])


@pytest.mark.parametrize("counts", [(20, 0), (20, 3), (1, 20)])
def test_a_class_with_too_few_examples_is_refused(counts: tuple[int, ...]) -> None:
    bad = min(range(len(counts)), key=counts.__getitem__)
    said = f"class {bad} has {counts[bad]} examples, which leaves the .* split without one"
    with pytest.raises(RefusedInputError, match=said):
        stratified_split(_labels(*counts), SplitConfig(), len(counts))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"train": 0.5}, ["must add up to 1", "0.8"]),
        ({"test": 0.16}, ["must add up to 1", "1.01"]),
        ({"train": 1.0, "validation": 0.0, "test": 0.0}, ["data.split.train", "1.0"]),
        ({"validation": -0.15}, ["data.split.validation", "-0.15"]),
        ({"test": float("nan")}, ["data.split.test", "nan"]),
        ({"seed": -1}, ["data.split.seed", "-1"]),
    ],
)
def test_shares_that_cannot_be_are_refused(values: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        SplitConfig(**values)
    assert all(word in str(caught.value) for word in words)


def test_shares_may_be_off_by_rounding() -> None:
    assert SplitConfig(train=0.7, validation=0.1, test=0.2).test == 0.2


def test_the_fingerprint_covers_data_split_and_preparation() -> None:
    moved = {**PARTS, "train": np.array([0, 1]), "validation": np.array([2])}
    prints = {
        split_fingerprint("a", PARTS, {"shift": 1}),
        split_fingerprint("b", PARTS, {"shift": 1}),
        split_fingerprint("a", moved, {"shift": 1}),
        split_fingerprint("a", PARTS, {"shift": 2}),
    }
    assert len(prints) == 4
    assert split_fingerprint("a", PARTS, {"shift": 1}) in prints


def test_a_split_is_stored_once(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "splits"
    path = store_split(folder, "toy", "f" * 64, PARTS)
    assert path == folder / f"toy-{'f' * 12}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["splits"]["train"] == [0, 2]
    assert stored["fingerprint"] == "f" * 64
    before = path.stat().st_mtime_ns
    assert store_split(folder, "toy", "f" * 64, PARTS) == path
    assert path.stat().st_mtime_ns == before
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ['{"fingerprint": "changed"}', '{"fingerprint": ', "\xff", "[]", ""]
)
def test_a_stored_split_that_was_changed_is_refused(tmp_path: Path, text: str) -> None:
    path = store_split(tmp_path, "toy", "f" * 64, PARTS)
    path.write_text(text, encoding="latin-1")
    with pytest.raises(RefusedInputError, match=path.name):
        store_split(tmp_path, "toy", "f" * 64, PARTS)
    assert path.read_text(encoding="latin-1") == text


def test_one_moved_example_is_a_change(tmp_path: Path) -> None:
    path = store_split(tmp_path, "toy", "f" * 64, PARTS)
    path.write_text(path.read_text().replace("[0, 2]", "[0]"), encoding="utf-8")
    with pytest.raises(RefusedInputError, match="it was changed"):
        store_split(tmp_path, "toy", "f" * 64, PARTS)
