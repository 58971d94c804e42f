"""One chunk of the exact linear memory and its gradients, written out, for CPUs.

linear.py computes all but the state for all chunks at once: few kernels, as a GPU wants
it, on tensors that no CPU cache holds. Here a chunk's tensors stay in the cache; M and S are
read and written by one product, and keys and queries read by the same one: a pair [N, 2 C, D]
is the chunk's keys and below them its queries. The backward pass keeps of each token its error,
what it read of M_0 and S_0, and its rows of the C x C matrices; of each chunk the state it began
with. Notation as in gates.py and linear.py; "mix" is scores times spread, what a
write changes in a later read. A state is [N, 2 V, D]: M and S, transposed, one above the other.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .gate_products import Spread


class Kept(NamedTuple):
    """Kept of a linear memory's chunk for its backward pass, beside the gates."""

    pair: Tensor
    """[N, 2 C, D] keys, then queries."""
    scores: Tensor
    """[N, 2 C, C] k_t . k_j, then q_t . k_j."""
    found: Tensor
    """[N, 2 C, 2 V] what the pair reads of M_0 and S_0."""
    errors: Tensor
    """[N, C, V] e."""
    start: Tensor
    """[N, 2 V, D] M_0 and S_0, transposed, one above the other."""


class ChunkGrads(NamedTuple):
    """Gradients of one chunk's inputs."""

    pair: Tensor
    v: Tensor
    rate: Tensor
    spread: Spread
    start: Tensor
    """Of the state at the chunk's start."""


def chunk_forward(
    pair: Tensor, v: Tensor, rate: Tensor, spread: Spread, state: Tensor
) -> tuple[Tensor, Tensor, Kept]:
    """Forward pass of one chunk of the linear memory: reads, state after it, what is kept."""
    size = v.shape[1]
    k = pair[:, :size]
    scores, found = torch.bmm(pair, k.mT), torch.bmm(pair, state.mT)
    mix = scores * spread.spread
    reads = weighted(found, spread.shares)
    wanted = reads[:, :size].sub_(v)
    # from the right and transposed: the errors then lie row by row in memory
    errors = torch.linalg.solve_triangular(
        mix[:, :size].mul_(rate[:, None]).mT, wanted.mT,
        upper=True, left=False, unitriangular=True,
    ).mT  # fmt: skip
    writes = rate[..., None] * errors
    # a batched product in place would copy a part of a tensor there and back
    read = torch.baddbmm(reads[:, size:], mix[:, size:], writes, alpha=-1)
    after = faded(state, spread.whole)
    after.baddbmm_(both(writes, spread.ends).mT, k, alpha=-1)
    return read, after, Kept(pair, scores, found, errors, state)


def weighted(found: Tensor, shares: Tensor) -> Tensor:
    """The two halves of [N, C, 2 V], weighted by shares [N, C, 2] and added up."""
    of_weights, of_momentum = found.chunk(2, -1)
    return (of_weights * shares[..., :1]).addcmul_(of_momentum, shares[..., 1:])


def both(x: Tensor, shares: Tensor) -> Tensor:
    """[first x, second x], [N, C, 2 V]: the way back from `weighted`."""
    return (x[..., None, :] * shares[..., None]).flatten(2)


def by_both(x: Tensor, halves: Tensor) -> Tensor:
    """x . first half and x . second half, [N, C, 2], of x [N, C, V] and halves [N, C, 2 V]."""
    return (halves.view(*x.shape[:2], 2, -1) * x[..., None, :]).sum(-1)


def faded(state: Tensor, whole: Tensor) -> Tensor:
    """The state after a chunk that writes nothing; with `whole` transposed, the way back."""
    return torch.bmm(whole, _flat(state)).view(state.shape)


def by_whole(start: Tensor, grad_after: Tensor) -> Tensor:
    """The gradient of `Spread.whole`, from a state at a chunk's start and the next one's."""
    return torch.bmm(_flat(grad_after), _flat(start).mT)


def _flat(state: Tensor) -> Tensor:
    """[N, 2, V D]: M in a row, and S."""
    return state.reshape(len(state), 2, -1)


def chunk_backward(
    rate: Tensor,
    spread: Spread,
    kept: Kept,
    grad: Tensor,
    grad_after: Tensor,
    grad_errors: Tensor | None = None,
) -> ChunkGrads:
    """From the gradients of the reads, of the state after the chunk, and of the errors, if any."""
    errors, pair, size = kept.errors, kept.pair, grad.shape[1]
    k, minus = pair[:, :size], -rate[..., None]
    pulled, mix = torch.bmm(k, grad_after.mT), kept.scores * spread.spread
    taking = _taking(mix, rate, weighted(pulled, spread.ends), grad, grad_errors)
    grad_rate = (errors * taking).sum(-1).neg_()
    by_found = minus * taking
    if grad_errors is not None:
        by_found += grad_errors
    reading, taken = torch.cat([by_found, grad], 1), minus * errors

    by_mix = torch.bmm(reading, taken.mT)
    by_scores, by_spread = by_mix * spread.spread, by_mix.mul_(kept.scores)
    found, ends = both(reading, spread.shares), both(taken, spread.ends)
    grad_pair = torch.bmm(found, kept.start).baddbmm_(by_scores, k)
    grad_pair[:, :size] += torch.bmm(by_scores.mT, pair).baddbmm_(ends, grad_after)
    grad_start = faded(grad_after, spread.whole.mT).baddbmm_(found.mT, pair)
    grad_spread = Spread(
        by_spread,
        by_both(reading, kept.found),
        by_both(taken, pulled),
        by_whole(kept.start, grad_after),
    )
    return ChunkGrads(grad_pair, by_found.neg_(), grad_rate, grad_spread, grad_start)


def _taking(
    mix: Tensor, rate: Tensor, taking: Tensor, grad: Tensor, grad_errors: Tensor | None
) -> Tensor:
    """Minus the gradient of the writes: of the state after them, of the reads, of the errors.

    What the state after them gives is `taking` at first; `mix` is overwritten. The way back
    through the triangular solve is one from its other side, with theta at the rows of its matrix.
    """
    size = grad.shape[1]
    key_mix = mix[:, :size]
    taking.baddbmm_(mix[:, size:].mT, grad)
    if grad_errors is not None:
        taking.baddbmm_(key_mix.mT, grad_errors)
    return torch.linalg.solve_triangular(
        key_mix.mul_(rate[..., None]), taking.mT, upper=False, left=False, unitriangular=True
    ).mT
