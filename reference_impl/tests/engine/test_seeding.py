"""Keyed randomness: the same keys give the same numbers, other keys give others."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_reasoner.engine import seeding

KEYS = st.lists(st.integers() | st.text("ab1i:", max_size=3), max_size=4)


@pytest.fixture
def determinism() -> Iterator[None]:
    """Puts torch's switches back."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    yield
    seeding.set_determinism("run" if deterministic else "off")
    torch.set_num_threads(threads)


@given(first=KEYS, second=KEYS, seed=st.integers(0, 3))
@settings(deadline=None, derandomize=True)
def test_only_equal_keys_give_equal_seeds(
    first: list[int | str], second: list[int | str], seed: int
) -> None:
    same = seeding.derive(seed, *first) == seeding.derive(seed, *second)
    assert same == (first == second)
    assert 0 <= seeding.derive(seed, *first) < 2**63


def test_keys_that_look_alike_do_not_collide() -> None:
    made = [
        seeding.derive(0, "a", "bc"),
        seeding.derive(0, "ab", "c"),
        seeding.derive(0, "abc"),
        seeding.derive(0, 1),
        seeding.derive(0, "1"),
        seeding.derive(0, 1, 1),
        seeding.derive(0, 11),
        seeding.derive(1),
        seeding.derive(0),
    ]
    assert len(set(made)) == len(made)


def test_a_seed_is_the_same_in_every_version_of_this_project() -> None:
    # a change here means that no older run can be continued or reproduced
    assert seeding.derive(0, "order", 3) == 6613409532709774436


@pytest.mark.parametrize("key", [1.5, None, b"x", True])
def test_another_type_of_key_is_an_error(key: object) -> None:
    with pytest.raises(TypeError, match="a key is an int or a str"):
        seeding.derive(0, key)  # type: ignore[arg-type]


def test_generators_follow_their_keys_and_leave_the_global_ones_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = torch.rand(3, generator=seeding.torch_generator(0, "a"))
    again = torch.rand(3, generator=seeding.torch_generator(0, "a"))
    other = torch.rand(3, generator=seeding.torch_generator(0, "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    numbers = seeding.numpy_generator(0, "a").random(3)
    assert np.array_equal(numbers, seeding.numpy_generator(0, "a").random(3))
    assert not np.array_equal(numbers, seeding.numpy_generator(1, "a").random(3))


def test_seed_globals_seeds_all_three() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seeding.seed_globals(0, "dropout", 7)
    first = draw()
    following = draw()
    seeding.seed_globals(0, "dropout", 7)
    assert draw() == first
    assert all(a != b for a, b in zip(first, following, strict=True))
    seeding.seed_globals(0, "dropout", 8)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


@pytest.mark.usefixtures("determinism")
@pytest.mark.parametrize(
    ("mode", "strict", "fill"), [("off", False, False), ("run", True, False), ("debug", True, True)]
)
def test_determinism_modes(
    mode: seeding.Determinism, strict: bool, fill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seeding.set_determinism(mode)
    assert torch.are_deterministic_algorithms_enabled() == strict
    assert torch.utils.deterministic.fill_uninitialized_memory == fill
    assert torch.backends.cudnn.deterministic == strict
    assert torch.backends.cudnn.benchmark != strict
    assert torch.backends.cudnn.allow_tf32 != strict
    assert torch.backends.cuda.matmul.allow_tf32 != strict
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == strict
    if "torch._inductor" in sys.modules:  # some other test has compiled
        assert sys.modules["torch._inductor.config"].deterministic == strict


def test_the_compiler_is_told_of_determinism_without_being_imported() -> None:
    lines = [
        "import sys, torch",
        "from reference_reasoner.engine.seeding import set_determinism",
        "for mode, strict in (('run', True), ('off', False), ('run', True)):",
        "    set_determinism(mode)",
        "    assert torch.are_deterministic_algorithms_enabled() == strict",
        "assert 'torch._inductor' not in sys.modules",
        "import torch._inductor.config as config",
        "assert config.deterministic",
        "set_determinism('off')",
        "assert not config.deterministic",
    ]
    subprocess.run([sys.executable, "-W", "ignore", "-c", "\n".join(lines)], check=True)


@pytest.mark.usefixtures("determinism")
def test_set_threads() -> None:
    seeding.set_threads(2)
    assert torch.get_num_threads() == 2
