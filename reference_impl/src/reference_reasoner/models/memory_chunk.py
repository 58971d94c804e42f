"""One chunk of the exact linear memory and its gradients, written out, for CPUs.

memory_linear.py computes all but the state for all chunks at once: few kernels, as a GPU wants
it, on tensors that no CPU cache holds. Here a chunk's tensors stay in the cache, and M and S are
read and written by one product. The backward pass keeps of each token its error, what it read of
M_0 and S_0, and its rows of the C x C matrices; of each chunk the state it began with. Notation
as in memory_gates.py and memory_linear.py; "mix" is scores times spread, what a write changes in
a later read. A state is [N, 2 V, D]: M and S, transposed, one above the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .memory_products import Spread


class Kept(NamedTuple):
    """What the backward pass needs of a chunk, beside its inputs."""

    spread: Spread
    key_scores: Tensor
    """[N, C, C] k_t . k_j."""
    scores: Tensor
    """[N, C, C] q_t . k_j."""
    key_found: Tensor
    """[N, C, 2 V] k_t M_0 and k_t S_0."""
    found: Tensor
    """[N, C, 2 V] q_t M_0 and q_t S_0."""
    errors: Tensor
    """[N, C, V] e."""
    start: Tensor
    """[N, 2 V, D] M_0 and S_0, transposed, one above the other."""

    def flat(self) -> list[Tensor]:
        """As autograd wants to save them."""
        return [*self.spread, *self[1:]]

    @classmethod
    def of(cls, flat: Sequence[Tensor]) -> "Kept":
        """The way back from `flat`."""
        fields = len(Spread._fields)
        return cls(Spread(*flat[:fields]), *flat[fields:])


class ChunkGrads(NamedTuple):
    """Gradients of one chunk's inputs."""

    q: Tensor
    k: Tensor
    v: Tensor
    rate: Tensor
    spread: Spread
    start: Tensor
    """Of the state at the chunk's start."""


def chunk_forward(
    q: Tensor, k: Tensor, v: Tensor, rate: Tensor, spread: Spread, state: Tensor
) -> tuple[Tensor, Tensor, Kept]:
    """What one chunk reads, the state after it, and what its backward pass needs."""
    key_scores, scores = k @ k.mT, q @ k.mT
    key_found, found = k @ state.mT, q @ state.mT
    lower = _found_mix(key_scores, spread).mul_(rate[:, None])
    wanted = weighted(key_found, spread.found_keep, spread.found_carry).sub_(v)
    # from the right and transposed: the errors then lie row by row in memory
    errors = torch.linalg.solve_triangular(
        lower.mT, wanted.mT, upper=True, left=False, unitriangular=True
    ).mT
    writes = rate[..., None] * errors
    read = weighted(found, spread.keep, spread.carry)
    read.baddbmm_(scores * spread.spread, writes, alpha=-1)
    after = faded(state, *spread.whole)
    after.baddbmm_(both(writes, spread.last, spread.trace).mT, k, alpha=-1)
    return read, after, Kept(spread, key_scores, scores, key_found, found, errors, state)


def _found_mix(key_scores: Tensor, spread: Spread) -> Tensor:
    """[N, C, C] what the write of token j changes in what a later token t finds."""
    mix = torch.empty_like(key_scores)
    mix[:, 0] = 0
    torch.mul(key_scores[:, 1:], spread.spread[:, :-1], out=mix[:, 1:])
    return mix


def weighted(found: Tensor, keep: Tensor, carry: Tensor) -> Tensor:
    """The two halves of [N, C, 2 V], weighted by token and added up."""
    of_weights, of_momentum = found.chunk(2, -1)
    return (of_weights * keep[..., None]).addcmul_(of_momentum, carry[..., None])


def both(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """[first x, second x], [N, C, 2 V]: the way back from `weighted`."""
    out = x.new_empty(*x.shape[:2], 2 * x.shape[2])
    left, right = out.chunk(2, -1)
    torch.mul(x, first[..., None], out=left)
    torch.mul(x, second[..., None], out=right)
    return out


def faded(state: Tensor, keep: Tensor, carry: Tensor, coast: Tensor) -> Tensor:
    """The state after a chunk that writes nothing."""
    weights, momentum = state.chunk(2, 1)
    after = torch.empty_like(state)
    new_weights, new_momentum = after.chunk(2, 1)
    torch.mul(weights, keep[:, None, None], out=new_weights)
    new_weights.addcmul_(momentum, carry[:, None, None])
    torch.mul(momentum, coast[:, None, None], out=new_momentum)
    return after


def faded_backward(grad: Tensor, keep: Tensor, carry: Tensor, coast: Tensor) -> Tensor:
    """The gradient of the state before such a chunk, from that of the state after it."""
    weights, momentum = grad.chunk(2, 1)
    before = torch.empty_like(grad)
    old_weights, old_momentum = before.chunk(2, 1)
    torch.mul(weights, keep[:, None, None], out=old_weights)
    torch.mul(weights, carry[:, None, None], out=old_momentum)
    old_momentum.addcmul_(momentum, coast[:, None, None])
    return before


def chunk_backward(
    q: Tensor,
    k: Tensor,
    rate: Tensor,
    kept: Kept,
    grad: Tensor,
    grad_after: Tensor,
    grad_errors: Tensor | None = None,
) -> ChunkGrads:
    """From the gradients of the reads, of the state after the chunk, and of the errors, if any."""
    spread, errors, theta = kept.spread, kept.errors, rate[..., None]
    writes, pulled = theta * errors, k @ grad_after.mT
    taking = _taking(kept, theta, pulled, grad, grad_errors)
    grad_rate = (errors * taking).sum(-1).neg_()
    grad_v = theta * taking
    if grad_errors is not None:
        grad_v -= grad_errors
    grad_last, grad_trace = by_half(writes, pulled)

    key_mix, mix = grad_v @ writes.mT, torch.bmm(grad, writes.mT).neg_()
    key_scores, scores = torch.zeros_like(key_mix), mix * spread.spread
    torch.mul(key_mix[:, 1:], spread.spread[:, :-1], out=key_scores[:, 1:])
    grad_spread = mix.mul_(kept.scores)
    grad_spread[:, :-1].addcmul_(key_mix[:, 1:], kept.key_scores[:, 1:])

    reading = both(grad, spread.keep, spread.carry)
    key_reading = both(grad_v, spread.found_keep, spread.found_carry).neg_()
    found_keep, found_carry = by_half(grad_v, kept.key_found)
    grad_q = torch.bmm(reading, kept.start).baddbmm_(scores, k)
    grad_k = torch.bmm(key_reading, kept.start)
    grad_k.baddbmm_(key_scores + key_scores.mT, k).baddbmm_(scores.mT, q)
    grad_k.baddbmm_(both(writes, spread.last, spread.trace), grad_after, alpha=-1)
    grad_start = faded_backward(grad_after, *spread.whole)
    grad_start.baddbmm_(reading.mT, q).baddbmm_(key_reading.mT, k)

    by_spread = Spread(
        grad_spread, *by_half(grad, kept.found), -found_keep, -found_carry,
        -grad_last, -grad_trace,
        *by_whole(kept.start, grad_after), spread.kept, spread.moved,
    )  # fmt: skip
    return ChunkGrads(grad_q, grad_k, grad_v, grad_rate, by_spread, grad_start)


def _taking(
    kept: Kept, theta: Tensor, pulled: Tensor, grad: Tensor, grad_errors: Tensor | None
) -> Tensor:
    """Minus the gradient of the writes: of the state after them, of the reads, of the errors.

    `pulled` [N, C, 2 V] is k times the gradient of the state. The way back through the triangular
    solve is one from its other side, with theta at the rows of its matrix.
    """
    spread = kept.spread
    taking = weighted(pulled, spread.last, spread.trace)
    taking.baddbmm_((kept.scores * spread.spread).mT, grad)
    key_mix = _found_mix(kept.key_scores, spread)
    if grad_errors is not None:
        taking.baddbmm_(key_mix.mT, grad_errors)
    return torch.linalg.solve_triangular(
        key_mix.mul_(theta), taking.mT, upper=False, left=False, unitriangular=True
    ).mT


def by_whole(start: Tensor, grad_after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `Spread.whole`, from a state at a chunk's start and the next one's."""
    weights, momentum = start.chunk(2, 1)
    grad_weights, grad_momentum = grad_after.chunk(2, 1)
    return (
        (grad_weights * weights).sum((1, 2)),
        (grad_weights * momentum).sum((1, 2)),
        (grad_momentum * momentum).sum((1, 2)),
    )


def by_half(x: Tensor, halves: Tensor) -> tuple[Tensor, Tensor]:
    """x . first half and x . second half, [N, C] each, of x [N, C, V] and halves [N, C, 2 V]."""
    first, second = halves.chunk(2, -1)
    return (x * first).sum(-1), (x * second).sum(-1)
