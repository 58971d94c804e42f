"""The threshold above which a halting head is believed, tuned on the rows of validation."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...engine.evaluation.bootstrap import numbers
from ...engine.training.task import Row
from ..models.act_head import THRESHOLDS, right_at, stops_at, tuned_threshold

MOST_LOST = 0.005
"""Share of the rows of validation that may be lost where losing none saves too few steps."""


def tuned_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Tune the halting `threshold` so that it saves steps and loses no row; its scores.

    A row is lost that full depth answers right and the answer at the stop does not. In order of
    caution: the next of THRESHOLDS after the lowest that loses none, as the lowest of many that
    lose none is one that had luck; that one itself; the lowest that loses at most MOST_LOST. The
    first of them that saves half of the steps is taken, and the last where none does.
    `output["confidences"]` and `output["right_by_step"]` of a row are of each step at full depth.
    """
    logits = torch.from_numpy(numbers(rows, _confidences)).T.logit()  # [S, N]
    right = torch.from_numpy(numbers(rows, _right_by_step)).T
    lowest = tuned_threshold(logits, right, most_lost=0)
    threshold = mean_steps = 0.0
    for threshold in (
        next_threshold(lowest), lowest, tuned_threshold(logits, right, most_lost=MOST_LOST)
    ):  # fmt: skip
        mean_steps = float((stops_at(threshold, logits) + 1).double().mean())
        if mean_steps <= len(logits) / 2:
            break
    return {
        "threshold": threshold,
        "tuned_accuracy": float(right_at(threshold, logits, right).double().mean()),
        "tuned_mean_steps": mean_steps,
    }


def next_threshold(threshold: float) -> float:
    """The next higher one of THRESHOLDS; 1.0, which stops nothing, after the last."""
    return next((each for each in THRESHOLDS if each > threshold), 1.0)


def _confidences(rows: Sequence[Row]) -> NDArray[np.float32]:
    return np.array([row.output["confidences"] for row in rows], dtype=np.float32)


def _right_by_step(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.output["right_by_step"] for row in rows], dtype=np.bool_)
