"""What each block makes of its memory: the gate's shares, and how much is still a surprise.

B batch, P persistent tokens, T tokens, H heads, W width. The blocks' inputs are looked at while the
model works, by hooks that are gone afterwards; nothing in the model changes.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...engine.data.dataset import Dataset, collate
from ..models.full_model import RecursiveReasoner
from ..models.memory.surprise import set_surprise, token_surprise
from ..models.titans_mag import MagBlock

WRITTEN = 4
"""Which argument of a block says what the first pass wrote; there where passes differ."""
LATE_SHARE = 4
"""The last T / LATE_SHARE tokens are late."""
LATENT, ANSWER = "latent", "answer"
UPDATES = (LATENT, ANSWER)
"""What the last two applications of the network in a supervision step update."""
FIRST = "first latent"
"""What the first application of the last recursion updates: where a memory is written once."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of measured values: number, mean and spread; what two sets of them have adds up."""

    count: int
    mean: float
    squares: float
    """Sum of the squared distances from the mean."""

    @classmethod
    def of(cls, values: Tensor) -> "Moments":
        """Of all numbers in `values`, in float64."""
        values = values.cpu().double()  # not every device has float64
        mean = values.mean()
        squares = (values - mean).square().sum()
        return cls(count=values.numel(), mean=float(mean), squares=float(squares))

    def __add__(self, other: "Moments") -> "Moments":
        # Chan, Golub and LeVeque 1983, Algorithms for Computing the Sample Variance, eq. 2.1
        count = self.count + other.count
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.count * other.count / count
        mean = self.mean + apart * other.count / count
        return Moments(count=count, mean=mean, squares=squares)

    @property
    def std(self) -> float:
        """Standard deviation of the population."""
        return math.sqrt(self.squares / self.count)


class Place(NamedTuple):
    """Where in the computation the memory's use was measured: step, update and layer."""

    update: str
    """One of UPDATES, or FIRST."""
    layer: int
    """From 1."""
    step: int
    """Supervision step, from 1."""


Measured = Mapping[Place, Moments]


@dataclass(frozen=True, kw_only=True)
class MemoryUse:
    """How a memory is used: gate and surprise over tokens, heads and examples."""

    shares: Measured
    """The attention's share in the gate. Empty where the gate multiplies: it has none."""
    surprise: Measured
    """Before a write: that of all tokens at once for a set, else each token's own. At FIRST alone
    where only the first pass writes."""
    later_surprise: Measured
    """After the write of a set; else the `surprise` of late tokens."""


def memory_blocks(model: RecursiveReasoner) -> list[MagBlock]:
    """The blocks with a memory, in order."""
    blocks = [block for block in model.backbone.blocks if isinstance(block, MagBlock)]
    return [block for block in blocks if block.memory is not None]


def memory_use(
    model: RecursiveReasoner, examples: Dataset, *, count: int, batch_size: int
) -> MemoryUse:
    """Measure how the memory is used by the first `count` examples, `batch_size` at a time.

    The model has a memory, is in eval mode and on its device. Examples have `tokens` and no
    packed documents.
    """
    found: tuple[dict[Place, Moments], ...] = ({}, {}, {})
    prefix = model.config.persistent_tokens
    writing = (FIRST,) if model.backbone.writes_once else UPDATES
    for tokens in _batches(examples, min(count, len(examples)), batch_size):
        for place, block, x in _inputs(model, tokens.to(model.embedding.weight.device)):
            measured = _measure(block, x, prefix, writes=place.update in writing)
            for sums, values in zip(found, measured, strict=True):
                if values is not None:
                    new = Moments.of(values)
                    sums[place] = sums[place] + new if place in sums else new
    return MemoryUse(shares=found[0], surprise=found[1], later_surprise=found[2])


def _batches(examples: Dataset, count: int, batch_size: int) -> Iterator[Tensor]:
    for start in range(0, count, batch_size):
        chosen = range(start, min(start + batch_size, count))
        yield collate([examples.example(index, None) for index in chosen])["tokens"]


def _inputs(model: RecursiveReasoner, tokens: Tensor) -> list[tuple[Place, MagBlock, Tensor]]:
    """The blocks' inputs [B, P + T, W] in the last two applications of every supervision step.

    And in the first of its last recursion where that is the one that writes.
    """
    blocks = memory_blocks(model)
    kept = [deque[Tensor](maxlen=len(UPDATES)) for _ in blocks]
    firsts = [deque[Tensor](maxlen=1) for _ in blocks]
    hooks = [
        block.register_forward_pre_hook(_keeper(inputs, first))
        for block, inputs, first in zip(blocks, kept, firsts, strict=True)
    ]
    found = []
    try:
        for step, _ in enumerate(model.at_depth(tokens, model.config.halting.max_steps), start=1):
            for layer, block in enumerate(blocks, start=1):
                named = [*zip(UPDATES, kept[layer - 1], strict=True)]
                named += [(FIRST, x) for x in firsts[layer - 1]]
                found += [(Place(update, layer, step), block, x) for update, x in named]
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _keeper(
    inputs: deque[Tensor], first: deque[Tensor]
) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        inputs.append(given[0])
        if given[WRITTEN:] == (None,):
            first.append(given[0])

    return keep


def _measure(
    block: MagBlock, x: Tensor, prefix: int, *, writes: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Values for the three fields of MemoryUse, or None where there is nothing to measure.

    A pass that alone writes is measured for its surprise alone, and those that do not for the rest.
    """
    memory, gate = block.memory, block.gate
    assert memory is not None  # memory_blocks has no others
    assert gate is not None
    once = memory.config.write == "first_pass"
    unshared = gate.linear is None or (once and writes)
    shares = None if unshared else gate.share(x)[:, prefix:]
    if not writes:
        return shares, None, None
    if not memory.causal:
        return shares, *set_surprise(memory, x, prefix=prefix)
    surprise = token_surprise(memory, x, prefix=prefix)
    late = max(1, surprise.shape[-1] // LATE_SHARE)
    return shares, surprise, surprise[..., -late:]
