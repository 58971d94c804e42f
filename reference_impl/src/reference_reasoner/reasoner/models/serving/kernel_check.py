"""Whether a GPU's kernels, Triton's and those of the extra `fla`, give what torch gives."""

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, normalize
from torch.utils._pytree import tree_leaves

from ..attention.attention import AttentionCache
from ..block_cache import BlockCache
from ..layers.twin_check import agrees, apart
from ..memory.config import MemoryConfig
from ..memory.deep import DeepState
from ..memory.gates import Gates
from ..memory.gpu.gated_delta import gated_delta_memory
from ..memory.linear import LinearState, linear_memory
from ..memory.neural_memory import MemoryCache, NeuralMemory
from ..memory.queries import QueryCache
from ..memory.sequential import recurrence, substitution
from ..titans_mag import BackboneConfig, MagBlock
from .fused_step import FusedStep

ROWS, CHUNKS, CHUNK, WIDTH = 2, 3, 64, 64
MEMORY = MemoryConfig(heads=2, depth=2, features=128)


@functools.cache
def kernels_agree(device: torch.device) -> bool:
    """Whether they do; where they do not, a warning says why. Takes seconds, to compile them."""
    return agrees(device, _errors, "the Triton kernels of the memory do not serve")


@functools.cache
def delta_kernels_agree(device: torch.device) -> bool:
    """The same of the extra `fla`, whose kernels other people make."""
    return agrees(device, _errors_of_the_delta_rule, "the extra fla does not serve")


def _errors(device: torch.device) -> Iterator[tuple[str, float]]:
    """(kernel, how far it is from torch) of each."""
    from ..memory.gpu.linear_launch import recurred, substituted
    from ..memory.gpu.set_launch import recalled

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    yield from _errors_of_a_step(normal)
    keys = normalize(normal(ROWS, CHUNK, WIDTH), dim=-1)
    lower, right = (keys @ keys.mT).tril(-1), normal(ROWS, CHUNK, WIDTH)
    for transposed in (False, True):
        found = substituted(lower, right, transposed=transposed)
        yield "substitution", apart(found, substitution(lower, right, transposed=transposed))
    steps, pushes = normal(ROWS, CHUNKS, WIDTH, WIDTH), normal(ROWS, CHUNKS, WIDTH, WIDTH)
    given = (steps / WIDTH**0.5, pushes, normal(ROWS, WIDTH, WIDTH), None, None)
    for backwards in (False, True):
        both = zip(
            recurred(*given, backwards=backwards),
            recurrence(*given, backwards=backwards),
            strict=True,
        )
        yield "the recurrence", max(apart(*each) for each in both)
    with torch.random.fork_rng(devices=[]):  # a training's draws stay as they are
        memory = NeuralMemory(2 * WIDTH, MEMORY, causal=False).to(device).eval()
    x = normal(ROWS, CHUNK, 2 * WIDTH)
    read = memory.out(recalled(memory.qkv(x), memory.gates.linear(x), memory))
    yield "the memory of a set", apart(read, memory(x))


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
        yield "a decoded token", max(apart(*each) for each in both)


def _floats(*found: Any) -> list[Tensor]:
    """The tensors of numbers that are not whole."""
    leaves = [each for each in tree_leaves(found) if isinstance(each, Tensor)]
    return [each for each in leaves if each.is_floating_point()]


def _errors_of_the_delta_rule(device: torch.device) -> Iterator[tuple[str, float]]:
    """Of what tokens read and of the memory after them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    q, k = (normalize(normal(ROWS, CHUNK, WIDTH), dim=-1) for _ in range(2))
    v, rate, forget = normal(ROWS, CHUNK, WIDTH), normal(ROWS, CHUNK), normal(ROWS, CHUNK)
    never = torch.full_like(rate, -torch.inf)
    gates = Gates(rate.sigmoid(), logsigmoid(4 - forget), never, torch.zeros_like(rate))
    weights = normal(ROWS, WIDTH, WIDTH) / WIDTH**0.5
    state = LinearState(weights, torch.zeros_like(weights))
    read, after = gated_delta_memory(q, k, v, gates, state)
    exact, expected, _ = linear_memory(q, k, v, gates, state, chunk=CHUNK)
    yield "its reads", apart(read, exact)
    yield "its memory", apart(after.weights, expected.weights)
