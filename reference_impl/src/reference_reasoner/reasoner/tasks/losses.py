"""Losses over the positions of a sequence or grid that ask for something.

B batch, T tokens, V vocabulary. Labels are int64 [B, T], IGNORED where nothing is asked.
"""

from torch import Tensor

from ..data.labels import IGNORED
from ..models.layers.stablemax import Normaliser, log_probabilities


def answer_loss(logits: Tensor, labels: Tensor, normaliser: Normaliser) -> Tensor:
    """Loss of the answer [B]: mean cross-entropy over a row's labels in nats, 0 without any."""
    asked = labels != IGNORED
    logs = log_probabilities(logits, normaliser)
    each = -logs.gather(-1, labels.where(asked, 0)[..., None])[..., 0].where(asked, 0)
    return each.sum(1) / asked.sum(1).clamp_min(1)


def token_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Token accuracy: share of the labels that are the likeliest token."""
    asked = labels != IGNORED
    hits = (logits.detach().argmax(-1) == labels) & asked
    return hits.sum() / asked.sum().clamp_min(1)
