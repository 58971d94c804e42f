"""Whether the Triton kernels give on this machine what torch gives: looked at once, before use.

They are compiled where they run, for the GPU and by the Triton that are there. A fault of either
shows here, and the torch forms go on serving, instead of in the middle of a training.
"""

import functools
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .memory_config import MemoryConfig
from .memory_sequential import recurrence, substitution
from .neural_memory import NeuralMemory

TOLERANCE = 1e-2
"""Of the largest number; above what TF32 may do to the products of either side."""
ROWS, CHUNKS, CHUNK, WIDTH = 2, 3, 64, 64


@functools.cache
def kernels_agree(device: torch.device) -> bool:
    """Whether they do; where they do not, a warning says why. Takes seconds, to compile them."""
    problem = ""
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            wrong = {name for name, error in _errors(device) if not error <= TOLERANCE}
        if wrong:
            problem = f"other numbers than torch's from {' and '.join(sorted(wrong))}"
    except Exception as error:  # a compiler fails in ways of its own
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        warnings.warn(
            f"the Triton kernels of the memory do not serve on {device} ({problem}); torch's own "
            "operators do, more slowly",
            stacklevel=2,
        )
    return not problem


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    """(kernel, how far it is from torch) of each."""
    from .memory_linear_cuda import recurred, substituted
    from .memory_set_cuda import recalled

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    keys = normalize(normal(ROWS, CHUNK, WIDTH), dim=-1)
    lower, right = (keys @ keys.mT).tril(-1), normal(ROWS, CHUNK, WIDTH)
    for transposed in (False, True):
        found = substituted(lower, right, transposed=transposed)
        yield "substitution", _apart(found, substitution(lower, right, transposed=transposed))
    steps, pushes = normal(ROWS, CHUNKS, WIDTH, WIDTH), normal(ROWS, CHUNKS, WIDTH, WIDTH)
    given = (steps / WIDTH**0.5, pushes, normal(ROWS, WIDTH, WIDTH), None, None)
    for backwards in (False, True):
        both = zip(
            recurred(*given, backwards=backwards),
            recurrence(*given, backwards=backwards),
            strict=True,
        )
        yield "the recurrence", max(_apart(*each) for each in both)
    config = MemoryConfig(heads=2, depth=2, features=128)
    with torch.random.fork_rng(devices=[]):  # a training's draws stay as they are
        memory = NeuralMemory(2 * WIDTH, config, causal=False).to(device).eval()
    x = normal(ROWS, CHUNK, 2 * WIDTH)
    read = memory.out(recalled(memory.qkv(x), memory.gates.linear(x), memory))
    yield "the memory of a set", _apart(read, memory(x))


def _apart(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())
