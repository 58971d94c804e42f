"""What stands around a memory in its layer, gates and output, by the C of native/.

B batch, T tokens in whole blocks, I numbers a token, H heads, D head width, W = H D, N = B H rows,
O outputs; all float32. Blocks of tokens go side by side on as many threads as torch has.
"""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake

from .arguments import GatesGiven, OutputGiven, by_token
from .library import call


def native_gates(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    heads: int,
    block: int,
    *,
    momentum: bool,
    forgetting: bool,
) -> list[Tensor]:
    """`TokenGates` of x [B, T, I], not as logarithms: theta, 1 - alpha, eta [N, T] and so on.

    weight is [kinds H, I], bias [kinds H]; with 4 kinds the inner rate is the last result.
    """
    (batch, tokens, inputs), kinds = x.shape, len(bias) // heads
    found = [x.new_empty(batch * heads, tokens) for _ in range(kinds)]
    if not is_fake(x):
        rate, keep, eta, *inner = found
        x = by_token(x)
        given = GatesGiven.of(
            threads=torch.get_num_threads(), batch=batch, tokens=tokens, inputs=inputs,
            heads=heads, size=block, kinds=kinds, momentum=momentum, forgetting=forgetting,
            stride=x.stride(0), x=x, matrix=weight.contiguous(), bias=bias.contiguous(),
            rate=rate, keep=keep, eta=eta, inner_rate=inner[0] if inner else None,
        )  # fmt: skip
        call("gates_forward", given)
    return found


def native_output(read: Tensor, norm: Tensor, matrix: Tensor, heads: int, block: int) -> Tensor:
    """`NeuralMemory.output`: read [N, T, D], norm [W], matrix [O, W] -> [B, T, O]."""
    rows, tokens, width = read.shape
    out = read.new_empty(rows // heads, tokens, len(matrix))
    if not is_fake(read):
        given = OutputGiven.of(
            threads=torch.get_num_threads(), batch=len(out), tokens=tokens, heads=heads,
            width=width, outputs=len(matrix), size=block, read=read.contiguous(),
            norm=norm.contiguous(), matrix=matrix.contiguous(), out=out,
        )  # fmt: skip
        call("output_forward", given)
    return out
