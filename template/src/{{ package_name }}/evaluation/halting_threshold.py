"""The threshold above which a halting head is believed, tuned on the rows of validation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.act_head import right_at, stops_at, tuned_threshold
from ..training.task import Row
from .columns import numbers

MOST_LOST = (0.0, 0.005)
"""Share of the rows of validation that the tuned threshold may lose: none; and half a point where
losing none leaves more than half of the steps. Of a few hundred rows half a point is one, and
thresholds that lost it have lost four points of other rows."""


def tuned_scores(rows: Sequence[Row]) -> dict[str, float]:
    """The lowest `threshold` that loses at most MOST_LOST, and what it gives on these rows.

    `output["confidences"]` and `output["right_by_step"]` of a row are of each step at full depth.
    """
    logits = torch.from_numpy(numbers(rows, _confidences)).T.logit()  # [S, N]
    right = torch.from_numpy(numbers(rows, _right_by_step)).T
    threshold = mean_steps = 0.0
    for most_lost in MOST_LOST:
        threshold = tuned_threshold(logits, right, most_lost=most_lost)
        mean_steps = float((stops_at(threshold, logits) + 1).double().mean())
        if mean_steps <= len(logits) / 2:
            break
    return {
        "threshold": threshold,
        "tuned_accuracy": float(right_at(threshold, logits, right).double().mean()),
        "tuned_mean_steps": mean_steps,
    }


def _confidences(rows: Sequence[Row]) -> NDArray[np.float32]:
    return np.array([row.output["confidences"] for row in rows], dtype=np.float32)


def _right_by_step(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.output["right_by_step"] for row in rows], dtype=np.bool_)
