"""What every kind of block ends with: a SwiGLU over the width, and a norm without a gain.

W width.
"""

from torch import Tensor, nn

from .initial_weights import truncated_normal
from .projection import Projection

EPSILON = 1e-5


def rms(x: Tensor) -> Tensor:
    """Scale x [..., W] to a root mean square of 1, without a gain (as in TRM)."""
    # autocast would make float32 of it on some devices, and of every sum after it
    return nn.functional.rms_norm(x, x.shape[-1:], eps=EPSILON).to(x.dtype)


class SwiGLU(nn.Module):
    """out(silu(a) * b) with (a, b) = gate_up(x), [..., W] -> [..., W] (Shazeer 2020, eq. 6)."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.gate_up = Projection(width, 2 * hidden_width, bias=False)
        self.out = Projection(hidden_width, width, bias=False)
        truncated_normal(self.gate_up.weight, std=width**-0.5)
        truncated_normal(self.out.weight, std=hidden_width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Apply SwiGLU to x [..., W]."""
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.out(nn.functional.silu(gate) * up)
        return out
