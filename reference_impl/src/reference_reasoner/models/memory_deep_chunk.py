"""One chunk of the exact deep memory and its gradients, written out, for CPUs.

In the features of W1, which stands still within a chunk, W2 is the linear memory of
memory_chunk.py. States are [N, 2 F, D] and [N, 2 V, F]: weights and momentum, transposed, one
above the other. See memory_deep.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .memory_chunk import (
    Kept,
    both,
    by_half,
    by_whole,
    chunk_backward,
    chunk_forward,
    faded,
    faded_backward,
    weighted,
)
from .memory_features import features, features_backward
from .memory_products import Spread


class DeepKept(NamedTuple):
    """What the backward pass needs of a chunk, beside its inputs."""

    second: Kept
    """Of W2, in feature space."""
    z: Tensor
    """[N, C, F] k W1."""
    query_z: Tensor
    """[N, C, F] q W1."""
    first_errors: Tensor
    """[N, C, F] what W1 is corrected by."""
    first: Tensor
    """[N, 2 F, D] at the chunk's start."""

    def flat(self) -> list[Tensor]:
        """As autograd wants to save them."""
        return [*self.second.flat(), *self[1:]]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> "DeepKept":
        """The way back from `flat`."""
        own = len(cls._fields) - 1
        return cls(Kept.of(flat[:-own]), *flat[-own:])


class DeepGrads(NamedTuple):
    """Gradients of one chunk's inputs."""

    q: Tensor
    k: Tensor
    v: Tensor
    rate: Tensor
    inner_rate: Tensor
    spread: Spread
    first: Tensor
    second: Tensor


def deep_chunk_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rates: tuple[Tensor, Tensor],
    spread: Spread,
    first: Tensor,
    second: Tensor,
) -> tuple[Tensor, Tensor, Tensor, DeepKept]:
    """Reads, both states after the chunk, and what the backward pass needs."""
    rate, inner_rate = rates
    frozen = first.chunk(2, 1)[0].mT
    z, query_z = k @ frozen, q @ frozen
    read, second_after, kept = chunk_forward(
        features(query_z), features(z), v, rate, spread, second
    )
    first_errors = features_backward(z, kept.errors @ second.chunk(2, 1)[0])
    first_after = faded(first, *spread.whole)
    taken = both(inner_rate[..., None] * first_errors, spread.last, spread.trace)
    first_after.baddbmm_(taken.mT, k, alpha=-1)
    return read, first_after, second_after, DeepKept(kept, z, query_z, first_errors, first)


def deep_chunk_backward(
    q: Tensor,
    k: Tensor,
    rates: tuple[Tensor, Tensor],
    kept: DeepKept,
    grad: Tensor,
    grad_first: Tensor,
    grad_second: Tensor,
) -> DeepGrads:
    """From the gradients of the reads and of both states after the chunk."""
    rate, inner_rate = rates
    spread, inner = kept.second.spread, inner_rate[..., None]
    frozen, frozen_second = kept.first.chunk(2, 1)[0], kept.second.start.chunk(2, 1)[0]

    writes = inner * kept.first_errors
    pulled = k @ grad_first.mT
    taking = weighted(pulled, spread.last, spread.trace).neg_()
    grad_inner = (kept.first_errors * taking).sum(-1)
    last, trace = by_half(writes, pulled)
    grad_k = torch.bmm(both(writes, spread.last, spread.trace), grad_first).neg_()

    grad_z, grad_back = _through_correction(
        kept.z, kept.second.errors @ frozen_second, inner * taking
    )
    found = chunk_backward(
        features(kept.query_z), features(kept.z), rate, kept.second, grad, grad_second,
        grad_back @ frozen_second.mT,
    )  # fmt: skip
    found.start.chunk(2, 1)[0].add_(kept.second.errors.mT @ grad_back)
    grad_z += features_backward(kept.z, found.k)
    grad_query_z = features_backward(kept.query_z, found.q)
    before = faded_backward(grad_first, *spread.whole)
    before.chunk(2, 1)[0].add_(grad_z.mT @ k).add_(grad_query_z.mT @ q)
    last_keep, last_carry, coast = by_whole(kept.first, grad_first)
    by_spread = found.spread._replace(
        last=found.spread.last - last,
        trace=found.spread.trace - trace,
        last_keep=found.spread.last_keep + last_keep,
        last_carry=found.spread.last_carry + last_carry,
        coast=found.spread.coast + coast,
    )
    return DeepGrads(
        grad_query_z @ frozen, grad_k.baddbmm_(grad_z, frozen), found.v, found.rate, grad_inner,
        by_spread, before, found.start,
    )  # fmt: skip


def _through_correction(z: Tensor, back: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of z and `back` through `features_backward`: second derivatives, by autograd."""
    with torch.enable_grad():
        z, back = z.detach().requires_grad_(), back.detach().requires_grad_()
        grad_z, grad_back = torch.autograd.grad(features_backward(z, back), (z, back), grad)
    return grad_z, grad_back
