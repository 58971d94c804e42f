"""Checksums and leakage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference_reasoner.engine.data.splits import (
    check_no_leakage,
    identical_groups,
    sha256_of_arrays,
    verify_checksum,
)
from reference_reasoner.engine.errors import RefusedInputError


def _indices(*numbers: int) -> NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def test_the_sum_covers_names_types_shapes_and_bytes() -> None:
    array = np.arange(6, dtype=np.int64)
    sums = {
        sha256_of_arrays({"a": array}),
        sha256_of_arrays({"b": array}),
        sha256_of_arrays({"a": array.reshape(2, 3)}),
        sha256_of_arrays({"a": array.astype(np.uint64)}),
        sha256_of_arrays({"a": array[::-1]}),
        sha256_of_arrays({"a": array, "b": array}),
        sha256_of_arrays({}),
    }
    assert len(sums) == 7


def test_the_sum_does_not_see_order_or_memory_layout() -> None:
    array = np.arange(6.0).reshape(2, 3)
    first = sha256_of_arrays({"a": array, "b": array.T})
    assert first == sha256_of_arrays({"b": array.T.copy(), "a": np.asfortranarray(array)})


def test_another_checksum_is_refused() -> None:
    verify_checksum("the data", "a" * 64, "a" * 64)
    with pytest.raises(RefusedInputError, match=r"the data has the sha256 b{16}\.\.\., expected a"):
        verify_checksum("the data", "b" * 64, "a" * 64)


@given(rows=st.lists(st.integers(0, 3), max_size=12))
@settings(deadline=None, derandomize=True)
def test_a_group_is_named_by_its_first_row(rows: list[int]) -> None:
    groups = identical_groups(np.array(rows, dtype=np.int64).reshape(-1, 1))
    assert groups.tolist() == [rows.index(value) for value in rows]


def test_copies_within_one_split_are_fine() -> None:
    examples = np.array([[1, 2], [1, 2], [3, 4]])
    check_no_leakage(examples, {"train": _indices(0, 1), "test": _indices(2)})


@pytest.mark.parametrize("test", [(1, 2), (0, 2)])
def test_a_copy_across_splits_is_leakage(test: tuple[int, ...]) -> None:
    examples = np.array([[1, 2], [1, 2], [3, 4]])
    said = f"example {test[0]} of the test split is the same as example 0 of the train split"
    with pytest.raises(RefusedInputError, match=said):
        check_no_leakage(examples, {"train": _indices(0), "test": _indices(*test)})
