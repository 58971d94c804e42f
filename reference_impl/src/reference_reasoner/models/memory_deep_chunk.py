"""One chunk of the exact deep memory and its gradients, written out, for CPUs.

In the features of W1, which stands still within a chunk, W2 is the linear memory of
memory_chunk.py. States are [N, 2 F, D] and [N, 2 V, F]: weights and momentum, transposed, one
above the other. See memory_deep.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

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
from .memory_features import EPSILON
from .memory_products import Spread


class DeepKept(NamedTuple):
    """What the backward pass needs of a chunk, beside its inputs."""

    second: Kept
    """Of W2, in feature space."""
    z: Tensor
    """[N, C, F] k W1."""
    query_z: Tensor
    """[N, C, F] q W1."""
    keys: Tensor
    """[N, C, F] features of z."""
    queries: Tensor
    """[N, C, F] features of query_z."""
    inverse: Tensor
    """[N, C, 1] what z's activations were multiplied by to have length 1."""
    query_inverse: Tensor
    """[N, C, 1] the same of query_z."""
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
    (keys, inverse), (queries, query_inverse) = _features(z), _features(query_z)
    read, second_after, kept = chunk_forward(queries, keys, v, rate, spread, second)
    first_errors = _backward(z, keys, inverse, kept.errors @ second.chunk(2, 1)[0])
    first_after = faded(first, *spread.whole)
    taken = both(inner_rate[..., None] * first_errors, spread.last, spread.trace)
    first_after.baddbmm_(taken.mT, k, alpha=-1)
    all_kept = DeepKept(
        kept, z, query_z, keys, queries, inverse, query_inverse, first_errors, first
    )
    return read, first_after, second_after, all_kept


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
    q: Tensor,
    k: Tensor,
    rates: tuple[Tensor, Tensor],
    kept: DeepKept,
    grad: Tensor,
    grad_first: Tensor,
    grad_second: Tensor,
    of_tokens: Sequence[Tensor] = (),
) -> DeepGrads:
    """From the gradients of the reads and of both states after the chunk.

    `of_tokens` are those of the keys' features and of the errors, where they were given away.
    """
    rate, inner_rate = rates
    spread, inner = kept.second.spread, inner_rate[..., None]
    frozen, frozen_second = kept.first.chunk(2, 1)[0], kept.second.start.chunk(2, 1)[0]

    writes = inner * kept.first_errors
    pulled = k @ grad_first.mT
    taking = weighted(pulled, spread.last, spread.trace).neg_()
    grad_inner = (kept.first_errors * taking).sum(-1)
    last, trace = by_half(writes, pulled)
    grad_k = torch.bmm(both(writes, spread.last, spread.trace), grad_first).neg_()

    grad_z, grad_back = _through_correction(kept, inner * taking)
    found = chunk_backward(
        kept.queries, kept.keys, rate, kept.second, grad, grad_second,
        sum(of_tokens[1:], start=grad_back @ frozen_second.mT),
    )  # fmt: skip
    found.start.chunk(2, 1)[0].add_(kept.second.errors.mT @ grad_back)
    by_keys = sum(of_tokens[:1], start=found.k)
    grad_z += _backward(kept.z, kept.keys, kept.inverse, by_keys)
    grad_query_z = _backward(kept.query_z, kept.queries, kept.query_inverse, found.q)
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


def _through_correction(kept: DeepKept, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of z and of `back` through first errors = slope(z) r (back - u (u . back)).

    u are the keys, r = `inverse`, and `back` the errors as W2 hands them back.
    """
    z, unit, inverse = kept.z, kept.keys, kept.inverse
    back = kept.second.errors @ kept.second.start.chunk(2, 1)[0]
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
