"""Whether the Triton kernels give on this machine what torch gives: looked at once, before use.

They are compiled where they run, for the GPU and by the Triton that are there. A fault of either
shows here, and the torch forms go on serving, instead of in the middle of a training.
"""

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._pytree import tree_leaves

from .attention import AttentionCache
from .block_cache import BlockCache
from .fused_step import FusedStep
from .memory_config import MemoryConfig
from .memory_deep import DeepState
from .memory_queries import QueryCache
from .memory_sequential import recurrence, substitution
from .neural_memory import MemoryCache, NeuralMemory
from .titans_mag import BackboneConfig, MagBlock

TOLERANCE = 1e-2
"""Of the largest number; above what TF32 may do to the products of either side."""
ROWS, CHUNKS, CHUNK, WIDTH = 2, 3, 64, 64
MEMORY = MemoryConfig(heads=2, depth=2, features=128)


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
    from .memory_linear_launch import recurred, substituted
    from .memory_set_launch import recalled

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    yield from _errors_of_a_step(normal)
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
    with torch.random.fork_rng(devices=[]):  # a training's draws stay as they are
        memory = NeuralMemory(2 * WIDTH, MEMORY, causal=False).to(device).eval()
    x = normal(ROWS, CHUNK, 2 * WIDTH)
    read = memory.out(recalled(memory.qkv(x), memory.gates.linear(x), memory))
    yield "the memory of a set", _apart(read, memory(x))


def _errors_of_a_step(normal: Callable[..., Tensor]) -> Iterator[tuple[str, float]]:
    """Of a token that a block decodes, in a pass that writes and in one that asks alone."""
    config = BackboneConfig(width=2 * WIDTH, heads=2, causal=True, window=CHUNK, memory=MEMORY)
    with torch.random.fork_rng(devices=[]):
        block = MagBlock(config)
    fused = FusedStep(block.to(normal(1).device).eval())
    keys, values = normal(2, ROWS, 2, CHUNK, WIDTH)
    seen = torch.full_like(keys[0, 0, 0, 0], CHUNK // 2, dtype=torch.int64)
    visible = torch.arange(CHUNK, device=keys.device) < seen
    attention = AttentionCache(keys, values, visible, seen, prefix=0, room=0)
    place = block.attention.next_place(attention)
    first, second = (2 * ROWS, WIDTH, MEMORY.features), (2 * ROWS, MEMORY.features, WIDTH)
    state = DeepState(*(normal(*shape) for shape in (first, first, second, second, first, second)))
    taps = MEMORY.convolution - 1
    kinds: tuple[MemoryCache | QueryCache, ...] = (
        MemoryCache(state, normal(ROWS, taps, 3 * config.width)),
        QueryCache(state, normal(ROWS, taps, config.width)),
    )
    for kept in kinds:
        columns = normal(ROWS, 1, fused.columns_for(BlockCache(attention, kept)))
        same = copy.deepcopy(attention), copy.deepcopy(kept)
        found = fused.heads_by_kernels(columns, attention, kept, place)
        exact = fused.heads_by_operators(columns, *same, None, place)
        both = zip(_floats(found, attention, kept), _floats(exact, *same), strict=True)
        yield "a decoded token", max(_apart(*each) for each in both)


def _floats(*found: Any) -> list[Tensor]:
    """The tensors of numbers that are not whole."""
    leaves = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
    return [each for each in leaves if each.is_floating_point()]


def _apart(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())
