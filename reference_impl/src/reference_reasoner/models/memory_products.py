"""Products of the memory's gates chunk by chunk, and their gradients, without autograd.

The quantities are those of `Decay` in memory_gates.py, for one chunk [N, C] and without theta.
A and E are the products of 1 - alpha and of eta over tokens j < i <= t; the spread is A E, and
what lies before the chunk spreads as its first token's write does, times that token's gate.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Spread(NamedTuple):
    """What a chunk's gates do to old weights and to each token's write; or gradients of that."""

    spread: Tensor
    """[N, C, C] weight of the write of token j in M_t; 0 for j > t."""
    keep: Tensor
    """[N, C] share of M_0 in M_t."""
    carry: Tensor
    """[N, C] share of S_0 in M_t."""
    found_keep: Tensor
    """[N, C] share of M_0 in M_{t-1}."""
    found_carry: Tensor
    """[N, C] share of S_0 in M_{t-1}."""
    last: Tensor
    """[N, C] weight of the write of token j in M_C."""
    trace: Tensor
    """[N, C] the same in S_C."""
    last_keep: Tensor
    """[N] share of M_0 in M_C."""
    last_carry: Tensor
    """[N] share of S_0 in M_C."""
    coast: Tensor
    """[N] share of S_0 in S_C."""
    kept: Tensor
    """[N, C, C] A."""
    moved: Tensor
    """[N, C, C] E."""

    @property
    def whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """What becomes of the state over the whole chunk."""
        return self.last_keep, self.last_carry, self.coast


class Products:
    """The gates of all tokens, [N, T], in chunks; and the gradients of their logarithms."""

    def __init__(self, log_keep: Tensor, log_momentum: Tensor, chunk: int) -> None:
        self.chunk = chunk
        self.keep, self.momentum = _Gate(log_keep, chunk), _Gate(log_momentum, chunk)

    def spread(self, part: slice) -> Spread:
        """Of one chunk."""
        kept, moved = self.keep.between(part), self.momentum.between(part)
        spread = kept @ moved
        first = self.momentum.gates[:, part.start, None]
        keep, carry = self.keep.shares[:, part], spread[:, :, 0] * first
        found_keep = torch.cat([torch.ones_like(first), keep[:, :-1]], 1)
        found_carry = torch.cat([torch.zeros_like(first), carry[:, :-1]], 1)
        whole = keep[:, -1], carry[:, -1], moved[:, -1, 0] * first[:, 0]
        last, trace = spread[:, -1], moved[:, -1]
        return Spread(
            spread, keep, carry, found_keep, found_carry, last, trace, *whole, kept, moved
        )  # fmt: skip

    def backward(self, part: slice, spread: Spread, grad: Spread) -> None:
        """Take in the gradients of one chunk's spread; `grad.spread` is overwritten."""
        keep, carry, coast = grad.whole
        grad.keep[:, :-1] += grad.found_keep[:, 1:]
        grad.keep[:, -1] += keep
        grad.carry[:, :-1] += grad.found_carry[:, 1:]
        grad.carry[:, -1] += carry
        first = self.momentum.gates[:, part.start, None]
        by_spread = grad.spread
        by_spread[:, -1] += grad.last
        by_spread[:, :, 0] += grad.carry * first
        by_moved = spread.kept.mT @ by_spread
        by_moved[:, -1] += grad.trace
        by_moved[:, -1, 0] += coast * first[:, 0]
        self.keep.backward(part, spread.kept, by_spread @ spread.moved.mT)
        self.keep.by_sums[:, part] += grad.keep * spread.keep
        self.momentum.backward(part, spread.moved, by_moved)
        of_first = (grad.carry * spread.carry).sum(1) + coast * spread.coast
        self.momentum.by_sums[:, part.start] += of_first

    def grads(self) -> tuple[Tensor, Tensor]:
        """The gradients of both logarithms, [N, T] each, once every chunk has been taken in."""
        return self.keep.grad(), self.momentum.grad()


class _Gate:
    """One gate of every token, by its logarithm [N, T], which may be -inf."""

    def __init__(self, logs: Tensor, chunk: int) -> None:
        self.chunk = chunk
        self.zero = logs == -torch.inf
        # counted apart from the sums, as -inf minus -inf is not a number; they are rare
        self.zeros = _cumulated(self.zero.long(), chunk) if bool(self.zero.any()) else None
        self.sums = _cumulated(
            logs if self.zeros is None else logs.masked_fill(self.zero, 0), chunk
        )
        self.shares = self.sums.exp()
        if self.zeros is not None:
            self.shares.masked_fill_(self.zeros > 0, 0)
        self.gates = logs.exp()
        self.by_sums = torch.empty_like(logs)

    def between(self, part: slice) -> Tensor:
        """[N, C, C] products over t in (j, i]; 0 above the diagonal."""
        sums = self.sums[:, part]
        between = (sums[:, :, None] - sums[:, None, :]).exp_().tril_()
        if self.zeros is not None:
            zeros = self.zeros[:, part]
            between.masked_fill_(zeros[:, :, None] != zeros[:, None, :], 0)
        return between

    def backward(self, part: slice, between: Tensor, grad: Tensor) -> None:
        """Take in the gradient of `between`, which is overwritten."""
        grad.mul_(between)
        torch.sub(grad.sum(2), grad.sum(1), out=self.by_sums[:, part])

    def grad(self) -> Tensor:
        """Of the logarithms: token t's is in the sums from t to the end of its chunk."""
        return _cumulated(self.by_sums, self.chunk, backwards=True).masked_fill(self.zero, 0)


def slices(tokens: int, chunk: int) -> list[slice]:
    """The chunks, the last one maybe shorter."""
    return [slice(at, min(at + chunk, tokens)) for at in range(0, tokens, chunk)]


def _cumulated(x: Tensor, chunk: int, *, backwards: bool = False) -> Tensor:
    """Running sums of x [N, T] within each chunk; `backwards` from its end."""
    whole = x.shape[1] - x.shape[1] % chunk
    parts = [x[:, :0]]
    for piece, size in ((x[:, :whole], chunk), (x[:, whole:], x.shape[1] - whole)):
        if piece.shape[1]:
            by_chunk = piece.reshape(len(x), -1, size)
            sums = by_chunk.flip(-1).cumsum(-1).flip(-1) if backwards else by_chunk.cumsum(-1)
            parts.append(sums.flatten(1))
    return torch.cat(parts, 1)
