"""Every random number in this project is keyed: the same keys give the same number.

There is no random state to save or restore. What epoch 3's order is, or which pixels
example 17 loses in it, depends on the run's seed and on those keys only; never on how many
numbers somebody else drew before.
"""

import functools
import hashlib
import os
import random
import sys
from typing import Literal

import numpy as np
import torch

_KEY_KINDS = {int: "i", str: "s"}

Determinism = Literal["off", "run", "debug"]


def derive(seed: int, *keys: int | str) -> int:
    """Return the seed that belongs to `keys` under `seed`, in [0, 2**63).

    A blake2b hash of the typed, length-prefixed keys: `("a", "bc")` and `("ab", "c")`, or
    `1` and `"1"`, do not collide. Raises TypeError for a key that is not an int or a str.
    """
    digest = hashlib.blake2b(digest_size=8)
    for key in (seed, *keys):
        kind = _KEY_KINDS.get(type(key))
        if kind is None:
            raise TypeError(f"a key is an int or a str, got {key!r} ({type(key).__name__})")
        text = str(key).encode()
        digest.update(f"{kind}{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest(), "big") >> 1


def torch_generator(seed: int, *keys: int | str) -> torch.Generator:
    """A CPU generator seeded with `derive(seed, *keys)`."""
    return torch.Generator().manual_seed(derive(seed, *keys))


def numpy_generator(seed: int, *keys: int | str) -> np.random.Generator:
    """A NumPy generator seeded with `derive(seed, *keys)`."""
    return np.random.default_rng(derive(seed, *keys))


def seed_globals(seed: int, *keys: int | str) -> None:
    """Seed the global generators of Python, NumPy and torch (all devices).

    Called at the start of each micro-batch, so that layers which draw from the global
    generator (dropout) are keyed too.
    """
    value = derive(seed, *keys)
    random.seed(value)
    np.random.seed(value % 2**32)
    if _has_accelerator():
        torch.manual_seed(value)
    else:  # that one keeps a traceback for devices that may come, at 1 % of a small step
        torch.default_generator.manual_seed(value)


@functools.cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def set_determinism(mode: Determinism) -> None:
    """Choose how strictly torch repeats itself on this machine.

    `off` lets it choose the fastest kernels; `run` forbids kernels that do not repeat and
    TF32; `debug` also fills uninitialised memory, which shows reads of memory that nobody
    wrote (about 15 % slower).
    """
    strict = mode != "off"
    if strict:  # cuBLAS reads it at its first call
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if "torch._inductor" in sys.modules:
        torch.use_deterministic_algorithms(strict)
    else:  # the same, but it would import the compiler, which here takes most of a second
        torch.set_deterministic_debug_mode("error" if strict else "default")
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = str(int(strict))
    torch.utils.deterministic.fill_uninitialized_memory = mode == "debug"  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = strict
    torch.backends.cudnn.benchmark = not strict
    torch.backends.cuda.matmul.allow_tf32 = not strict
    torch.backends.cudnn.allow_tf32 = not strict


def set_threads(threads: int) -> None:
    """Use `threads` CPU threads inside an operator; results depend on it in the last bits."""
    torch.set_num_threads(threads)
