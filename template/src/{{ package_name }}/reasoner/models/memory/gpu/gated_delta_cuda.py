"""The gated delta rule by the kernels of flash-linear-attention (the extra `fla`), on a GPU."""

from fla.ops.gated_delta_rule import chunk_gated_delta_rule
from torch import Tensor


def gated_delta_rule(
    q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, start: Tensor
) -> tuple[Tensor, Tensor]:
    """A `Rule` of gated_delta.py; its products are TF32, to about 1e-3."""
    tokens = (x[:, :, None].contiguous() for x in (q, k, v, decay, beta))  # rows of one head each
    read, after = chunk_gated_delta_rule(
        *tokens, scale=1.0, initial_state=start[:, None].contiguous(), output_final_state=True
    )
    return read[:, :, 0], after[:, 0]
