"""Is the halting head right about steps that are in doubt?

At most steps of full depth nearly every item is right, or none is, and any head that says so looks
calibrated. These scores are of the other steps, and of how many items need a second one. Rows as
in `halting`, with `output["confidences"]` and `output["right_by_step"]` of each step. N rows, S
supervision steps.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.evaluation.bootstrap import numbers
from ...engine.evaluation.classification import binned
from ...engine.training.task import Row

IN_DOUBT = (0.2, 0.8)
"""Shares of right items between which a step is in doubt."""


def step_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Score the halting head step by step: `later_than_first`, `calibration_error_in_doubt`.

    The former is the share of the items that full depth solves whose first right step is not the
    first; 0.0 if there are none. The latter is the expected calibration error over ten bins (Guo
    et al. 2017, eq. 3) of all (item, step) pairs of the steps in doubt.
    """
    right = numbers(rows, _right)  # [N, S]
    solved = right[:, -1]
    later = float((~right[solved, 0]).mean()) if solved.any() else 0.0
    share = right.mean(0)
    doubtful = (share >= IN_DOUBT[0]) & (share <= IN_DOUBT[1])
    scores = {"later_than_first": later}
    if doubtful.any():
        sure = numbers(rows, _confidences)[:, doubtful].ravel()
        count, confidence, accuracy = binned(sure, right[:, doubtful].ravel())
        error = (count * np.abs(confidence - accuracy)).sum() / count.sum()
        scores["calibration_error_in_doubt"] = float(error)
    return scores


def _right(rows: Sequence[Row]) -> NDArray[np.bool_]:
    return np.array([row.output["right_by_step"] for row in rows], dtype=np.bool_)


def _confidences(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array([row.output["confidences"] for row in rows], dtype=np.float64)
