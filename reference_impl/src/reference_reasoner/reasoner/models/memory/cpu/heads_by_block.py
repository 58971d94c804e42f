"""Queries, keys and values from projections, block of tokens after block, for CPUs.

B batch, T tokens, H heads, D head width, W = H D, K taps, N = B H rows. The same as
`unit_heads` after `ShortConvolution`: convolve, SiLU, split into heads, and scale queries
and keys to length 1. Done whole, that is a dozen passes over tensors that no cache holds; here a
block goes through all of it at once, and again, the other way round, in the backward pass, which
keeps nothing but the projections.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from ..heads import by_head, together

BLOCK = 128
"""Tokens of a block: some hundred KB a row at the widths of the presets."""
SHORTEST = 1e-12
"""What a length is at least divided by, as in torch.nn.functional.normalize."""


class HeadsByBlock(torch.autograd.Function):
    """The memory's heads on a CPU, convolved, activated and scaled a block of tokens at a time.

    (projections [B, T, 3 W], taps [3 W, K], heads, 3) -> query, key, value [N, T, D]; with
    (projections [B, T, W], taps [W, K], heads, 1) the query alone.
    """

    @staticmethod
    def serves(projected: Tensor) -> bool:
        """Whether heads are made block by block: on a CPU, eager, in the memory's precision."""
        eager = not torch.compiler.is_compiling()
        return eager and projected.device.type == "cpu" and projected.dtype.itemsize >= 4

    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, taps: Tensor, heads: int, kinds: int
    ) -> tuple[Tensor, ...]:
        """Make the heads of one block of tokens after another."""
        batch, tokens, channels = projected.shape
        taps = taps.T.contiguous()  # a tap's weights side by side
        whole = projected.new_empty(kinds, batch * heads, tokens, channels // kinds // heads)
        for start, stop in _blocks(tokens):
            active = silu(_convolved(projected, taps, start, stop))
            block = by_head(active, heads, kinds)
            whole[2:, :, start:stop] = block[2:]
            pair = block[:2]
            torch.div(pair, _length(pair), out=whole[:2, :, start:stop])
        ctx.heads, ctx.kinds = heads, kinds
        ctx.save_for_backward(projected, taps)
        return tuple(whole.unbind(0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Go back block after block, through what each was made of again."""
        projected, taps = ctx.saved_tensors
        grad_projected, grad_taps = torch.empty_like(projected), torch.zeros_like(taps)
        for start, stop in _blocks(projected.shape[1]):
            mixed = _convolved(projected, taps, start, stop)
            some = torch.stack([grad[:, start:stop] for grad in grads])
            _along_sphere(some[:2], by_head(silu(mixed), ctx.heads, ctx.kinds)[:2])
            grad_mixed = torch.ops.aten.silu_backward(together(some, len(mixed)), mixed)
            # the first tap's share is the first that a token gets
            torch.mul(grad_mixed, taps[0], out=grad_projected[:, start:stop])
            for tap in range(min(len(taps), stop)):
                late = max(0, tap - start)  # tokens of the block that this tap gives nothing
                from_, to = start + late - tap, stop - tap
                if tap:
                    grad_projected[:, from_:to].addcmul_(grad_mixed[:, late:], taps[tap])
                grad_taps[tap] += (grad_mixed[:, late:] * projected[:, from_:to]).sum((0, 1))
        return grad_projected, grad_taps.T, None, None


def _blocks(tokens: int) -> Iterator[tuple[int, int]]:
    for start in range(0, tokens, BLOCK):
        yield start, min(start + BLOCK, tokens)


def _convolved(x: Tensor, taps: Tensor, start: int, stop: int) -> Tensor:
    """Convolve a block of tokens, `start` to `stop` of x [B, T, C], causally."""
    total = x[:, start:stop] * taps[0]
    for tap in range(1, min(len(taps), stop)):
        late = max(0, tap - start)
        total[:, late:].addcmul_(x[:, start + late - tap : stop - tap], taps[tap])
    return total


def _length(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min_(SHORTEST)


def _along_sphere(grad: Tensor, x: Tensor) -> None:
    """Make `grad` the gradient of scaling x to length 1: what lies along x is lost."""
    length = _length(x)
    along = (x * grad).sum(-1, keepdim=True).div_(length.square())
    grad.addcmul_(x, along.mul_(length > SHORTEST), value=-1).div_(length)
