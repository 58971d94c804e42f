"""Which row sees which in causal attention with a window, persistent tokens and documents.

B batch, P persistent tokens (the prefix), T tokens. Persistent tokens and the window as in Titans
(Behrouz et al. 2024), section 4.2.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import pad


def check_window(window: int, causal: bool) -> None:
    """Raises ValueError for a window below 0 or without `causal`."""
    if window < 0:
        raise ValueError(f"model.backbone.window must be at least 0, got {window}")
    if window and not causal:
        raise ValueError(
            f"model.backbone.window is {window}, but only causal attention has a window: "
            "model.backbone.causal is False"
        )


def sight(
    prefix: int, window: int, documents: Tensor | None
) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """The rule of causal attention with a window, as FlexAttention asks it.

    The result tells of tensors (batch, head, i, j) whether row i sees row j.
    """
    rows = None if documents is None else pad(documents, (prefix, 0))

    def sees(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        near = (i >= j) & (i - j < window)
        if rows is not None:
            near = near & (rows[batch, i] == rows[batch, j])
        return (j < prefix) | near

    return sees
