"""One chunk of the exact deep memory and its gradients, written out, for CPUs.

In the features of W1, which stands still within a chunk, W2 is the linear memory of
linear_chunk.py. States are [N, 2 F, D] and [N, 2 V, F]: weights and momentum, transposed, one
above the other. See deep.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from ..features import EPSILON
from .gate_products import Spread
from .linear_chunk import (
    Kept,
    both,
    by_both,
    by_whole,
    chunk_backward,
    chunk_forward,
    faded,
    weighted,
)

Written = tuple[list[Tensor], list[Tensor]]
"""Of one chunk: what it began with, [N, ...], and what its tokens wrote, [N, C, ...]."""


class DeepKept(NamedTuple):
    """Kept of a deep memory's chunk for its backward pass, beside the inputs."""

    second: Kept
    """Of W2, in feature space: its pair are the features of z."""
    pair: Tensor
    """[N, 2 C, D] keys, then queries."""
    z: Tensor
    """[N, 2 C, F] pair W1."""
    inverse: Tensor
    """[N, 2 C, 1] what z's activations were multiplied by to have length 1."""
    first_errors: Tensor
    """[N, C, F] what W1 is corrected by."""
    first: Tensor
    """[N, 2 F, D] at the chunk's start."""

    def flat(self) -> list[Tensor]:
        """As autograd wants to save them."""
        return [*self.second, *self[1:]]

    def written(self, size: int) -> Written:
        """What later reads need of a chunk of `size` tokens, see chunks.py."""
        starts = [self.first.chunk(2, 1)[0], self.second.start]
        return starts, [self.second.pair[:, :size], self.second.errors]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> "DeepKept":
        """The way back from `flat`."""
        own = len(cls._fields) - 1
        return cls(Kept(*flat[:-own]), *flat[-own:])


SAVED = len(Kept._fields) + len(DeepKept._fields) - 1
"""Tensors that a chunk keeps."""


class DeepGrads(NamedTuple):
    """Gradients of one chunk's inputs."""

    pair: Tensor
    v: Tensor
    rate: Tensor
    inner_rate: Tensor
    spread: Spread
    first: Tensor
    second: Tensor


def deep_chunk_forward(
    pair: Tensor,
    v: Tensor,
    rates: tuple[Tensor, Tensor],
    spread: Spread,
    first: Tensor,
    second: Tensor,
) -> tuple[Tensor, Tensor, Tensor, DeepKept]:
    """Forward pass of one chunk of the deep memory: reads, both states after, what is kept."""
    (rate, inner_rate), size = rates, v.shape[1]
    z = torch.bmm(pair, first.chunk(2, 1)[0].mT)
    features, inverse = _features(z)
    read, second_after, kept = chunk_forward(features, v, rate, spread, second)
    back = torch.bmm(kept.errors, second.chunk(2, 1)[0])
    first_errors = _backward(z[:, :size], features[:, :size], inverse[:, :size], back)
    first_after = faded(first, spread.whole)
    taken = both(inner_rate[..., None] * first_errors, spread.ends)
    first_after.baddbmm_(taken.mT, pair[:, :size], alpha=-1)
    return read, first_after, second_after, DeepKept(kept, pair, z, inverse, first_errors, first)


def _features(z: Tensor) -> tuple[Tensor, Tensor]:
    """`features` of z, and what the activations were multiplied by."""
    active = silu(z)
    inverse = torch.linalg.vector_norm(active, dim=-1, keepdim=True)
    inverse.square_().add_(EPSILON).rsqrt_()
    return active.mul_(inverse), inverse


def _backward(z: Tensor, unit: Tensor, inverse: Tensor, grad: Tensor) -> Tensor:
    """`features_backward` of what `_features` gave."""
    along = torch.linalg.vecdot(unit, grad)[..., None]
    across = torch.addcmul(grad, unit, along, value=-1).mul_(inverse)
    return torch.ops.aten.silu_backward(across, z)


def deep_chunk_backward(
    rates: tuple[Tensor, Tensor],
    spread: Spread,
    kept: DeepKept,
    grad: Tensor,
    grad_first: Tensor,
    grad_second: Tensor,
    of_tokens: Sequence[Tensor] = (),
) -> DeepGrads:
    """Backward pass of one chunk of the deep memory, from gradients of reads and states.

    `of_tokens` are those of the keys' features and of the errors, where they were given away.
    """
    (rate, inner_rate), size = rates, grad.shape[1]
    minus, k = -inner_rate[..., None], kept.pair[:, :size]
    frozen, frozen_second = kept.first.chunk(2, 1)[0], kept.second.start.chunk(2, 1)[0]

    taken, pulled = minus * kept.first_errors, torch.bmm(k, grad_first.mT)
    taking = weighted(pulled, spread.ends)
    grad_inner = (kept.first_errors * taking).sum(-1).neg_()
    grad_z, grad_back = _through_correction(kept, taking.mul_(minus))
    by_errors = sum(of_tokens[1:], start=torch.bmm(grad_back, frozen_second.mT))
    found = chunk_backward(rate, spread, kept.second, grad, grad_second, by_errors)
    found.start.chunk(2, 1)[0].add_(torch.bmm(kept.second.errors.mT, grad_back))
    for by_features in of_tokens[:1]:
        found.pair[:, :size] += by_features
    by_z = _backward(kept.z, kept.second.pair, kept.inverse, found.pair)
    by_z[:, :size] += grad_z
    before = faded(grad_first, spread.whole.mT)
    before.chunk(2, 1)[0].add_(torch.bmm(by_z.mT, kept.pair))
    found.spread.ends.add_(by_both(taken, pulled))
    found.spread.whole.add_(by_whole(kept.first, grad_first))
    grad_pair = torch.bmm(by_z, frozen)
    grad_pair[:, :size] += torch.bmm(both(taken, spread.ends), grad_first)
    return DeepGrads(grad_pair, found.v, found.rate, grad_inner, found.spread, before, found.start)


def _through_correction(kept: DeepKept, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of z and of `back` through first errors = slope(z) r (back - u (u . back)).

    u are the keys, r = `inverse`, and `back` the errors as W2 hands them back.
    """
    size = grad.shape[1]
    z, unit, inverse = (x[:, :size] for x in (kept.z, kept.second.pair, kept.inverse))
    back = torch.bmm(kept.second.errors, kept.second.start.chunk(2, 1)[0])
    gate = z.sigmoid()
    slope = torch.addcmul(gate, gate * (1 - gate), z)
    curve = gate * (1 - gate) * (2 + z * (1 - 2 * gate))
    along = torch.linalg.vecdot(unit, back)[..., None]
    across = torch.addcmul(back, unit, along, value=-1)
    by_across = grad * slope
    by_inverse = torch.linalg.vecdot(by_across, across)[..., None]
    by_across.mul_(inverse)
    against = torch.linalg.vecdot(unit, by_across)[..., None]
    grad_back = torch.addcmul(by_across, unit, against, value=-1)
    by_unit = (by_across * along).addcmul_(back, against).neg_()
    # u = a r and r = (a . a + eps)^-1/2, so that r' = -r^3 a' . a, and a = u / r
    by_inverse += torch.linalg.vecdot(by_unit, unit)[..., None] / inverse
    by_active = by_unit.addcmul_(unit, by_inverse * inverse, value=-1).mul_(inverse)
    grad_z = by_active.mul_(slope).addcmul_(across.mul_(inverse), grad * curve)
    return grad_z, grad_back
