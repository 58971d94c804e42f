"""Products of the memory's gates, chunk by chunk, and their gradients, without autograd.

The quantities are those of `Decay` in gates.py, without theta. A and E are the products of
1 - alpha and of eta over tokens j < i <= t; the spread is A E, and what lies before the chunk
spreads as its first token's write does, times that token's gate. G chunks, N rows, C tokens of a
chunk. Each token reads twice: its key before its write, what M_{t-1} holds, and its query after
it, M_t. So rows come in twos, 2 C: first those of all keys, then those of all queries.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake


class Spread(NamedTuple):
    """Products of gates: what they do to old weights and each token's write; or gradients.

    [G, N, ...] of all chunks, or [N, ...] of one.
    """

    spread: Tensor
    """[..., 2 C, C] weight of the write of token j in M_{t-1}, then in M_t; 0 for later ones."""
    shares: Tensor
    """[..., 2 C, 2] shares of M_0 and S_0 in M_{t-1}, then in M_t."""
    ends: Tensor
    """[..., C, 2] weights of the write of token j in M_C and S_C."""
    whole: Tensor
    """[..., 2, 2] shares of M_0 and S_0 in M_C, then in S_C."""

    def chunks(self) -> list["Spread"]:
        """Each one's."""
        return [Spread(*each) for each in zip(*(x.unbind(0) for x in self), strict=True)]

    @classmethod
    def of(cls, chunks: Iterable["Spread"]) -> "Spread":
        """The way back from `chunks`."""
        return cls(*(torch.stack(each) for each in zip(*chunks, strict=True)))


def spread_of(logs: Tensor, chunk: int) -> tuple[Spread, Tensor]:
    """Multiply gates given as logarithms [2, N, G C], maybe -inf; also A, E [2, G, N, C, C]."""
    logs = _chunked(logs, chunk)
    zero = logs == -torch.inf
    # counted apart from the sums, as -inf minus -inf is not a number; they are rare
    zeros = None if is_fake(zero) or not bool(zero.any()) else zero.cumsum(-1)
    sums = (logs if zeros is None else logs.masked_fill(zero, 0)).cumsum(-1)
    gates = (sums[..., :, None] - sums[..., None, :]).exp_().tril_()
    keep = sums[0].exp()
    if zeros is not None:
        gates.masked_fill_(zeros[..., :, None] != zeros[..., None, :], 0)
        keep.masked_fill_(zeros[0] > 0, 0)
    kept, moved = gates.unbind(0)
    spread = kept.new_empty(*keep.shape[:-1], 2 * chunk, chunk)
    spread[..., chunk:, :] = kept @ moved
    spread[..., 0, :] = 0
    spread[..., 1:chunk, :] = spread[..., chunk:-1, :]
    first = logs[1, ..., 0].exp()
    shares = spread.new_empty(*spread.shape[:-1], 2)
    shares[..., 0, 0] = 1
    shares[..., 1:chunk, 0] = keep[..., :-1]
    shares[..., chunk:, 0] = keep
    torch.mul(spread[..., 0], first[..., None], out=shares[..., 1])
    whole = shares.new_zeros(*first.shape, 2, 2)
    whole[..., 0, :] = shares[..., -1, :]
    whole[..., 1, 1] = moved[..., -1, 0] * first
    ends = torch.stack([spread[..., -1, :], moved[..., -1, :]], -1)
    return Spread(spread, shares, ends, whole), gates


def spread_backward(logs: Tensor, spread: Spread, gates: Tensor, grad: Spread) -> Tensor:
    """The gradient of the logarithms [2, N, G C], from those of what `spread_of` gave for them.

    The tensors of `grad` are overwritten.
    """
    chunk = gates.shape[-1]
    logs = _chunked(logs, chunk)
    first, (kept, moved) = logs[1, ..., 0].exp(), gates.unbind(0)
    by_coast = grad.whole[..., 1, 1]
    grad.shares[..., -1, :] += grad.whole[..., 0, :]
    by_keep, by_carry = (grad.shares * spread.shares).unbind(-1)
    grad.spread[..., 0].addcmul_(grad.shares[..., 1], first[..., None])
    by_spread = grad.spread[..., chunk:, :]
    by_spread[..., :-1, :] += grad.spread[..., 1:chunk, :]
    by_spread[..., -1, :] += grad.ends[..., 0]
    by_gates = torch.stack([by_spread @ moved.mT, kept.mT @ by_spread])
    by_gates[1, ..., -1, :] += grad.ends[..., 1]
    by_gates[1, ..., -1, 0].addcmul_(by_coast, first)
    by_gates.mul_(gates)
    by_sums = by_gates.sum(-1).sub_(by_gates.sum(-2))
    by_sums[0] += by_keep[..., chunk:]
    by_sums[0, ..., :-1] += by_keep[..., 1:chunk]
    by_sums[1, ..., 0] += by_carry.sum(-1).addcmul_(by_coast, spread.whole[..., 1, 1])
    # a token's logarithm is in the sums from it to the end of its chunk
    grads = by_sums.flip(-1).cumsum(-1).flip(-1).masked_fill_(logs == -torch.inf, 0)
    return grads.transpose(1, 2).flatten(2)


def _chunked(logs: Tensor, chunk: int) -> Tensor:
    """Cut gates' logarithms [2, N, G C] into chunks [2, G, N, C]."""
    return logs.reshape(*logs.shape[:2], -1, chunk).transpose(1, 2)
