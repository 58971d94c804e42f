"""Logits to probabilities, by softmax or by stablemax."""

from typing import Literal

import torch
from torch import Tensor

Normaliser = Literal["softmax", "stablemax"]


def log_probabilities(logits: Tensor, normaliser: Normaliser) -> Tensor:
    """Stablemax of logits [..., V]: log probabilities in nats, in at least float32.

    stablemax (Prieto et al. 2025, Grokking at the Edge of Numerical Stability, eq. 6) divides
    s(x) = x + 1 for x >= 0, 1 / (1 - x) below, by its sum: no exponential, so a large logit
    earns no more once its answer is right. TRM trains with it, in float64.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if normaliser == "softmax":
        return logits.log_softmax(-1)
    # each branch gets an argument that it can take, or the gradient of the other is not finite
    above, below = logits.clamp_min(0), logits.clamp_max(0)
    log_scores = torch.where(logits >= 0, above.log1p(), -(-below).log1p())
    return log_scores - log_scores.logsumexp(-1, keepdim=True)
