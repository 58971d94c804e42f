"""Right answers: a row's `output` has the `answer`, token by token as its `target`, and `right`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...engine.evaluation.bootstrap import numbers
from ...engine.training.task import Row


def answer_scores(rows: Sequence[Row]) -> dict[str, float]:
    """Score answers: shares of right tokens, and of rows that are right from end to end."""
    hits, tokens, right = numbers(rows, _hits).sum(0).tolist()
    return {"token_accuracy": hits / tokens, "accuracy": right / len(rows)}


def _hits(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Count right answers, [N, 3]: right tokens, tokens, and whether the row is right."""
    counted = []
    for row in rows:
        pairs = zip(row.output["answer"], row.target, strict=True)
        hits = sum(given == wanted for given, wanted in pairs)
        counted.append((hits, len(row.target), row.output["right"]))
    return np.array(counted, dtype=np.int64)
