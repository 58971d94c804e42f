"""What a reasoner answers at every supervision step of full depth, and where it would stop.

S supervision steps, B batch, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...engine.data.dataset import Batch
from ..data.labels import IGNORED
from ..models.full_model import RecursiveReasoner


@dataclass(frozen=True, kw_only=True)
class Course:
    """A batch at full depth."""

    answers: Tensor
    """int64 [S, B, T], the likeliest tokens."""
    right: Tensor
    """bool [S, B], whether every label is met."""
    sure: Tensor
    """[S, B], what the halting head says, as a probability."""

    def output(self, labels: Tensor, row: int, taken: int) -> dict[str, Any]:
        """Output of one row over its course of steps, stopped at step `taken`, from 0.

        It holds the answer at the labelled positions, the steps taken, the first step that was
        right, and what the head said at each step.
        """
        right = self.right[:, row]
        return {
            "answer": asked_of(labels, row, self.answers[taken, row]),
            "steps": taken + 1,
            "first_correct": int(right.int().argmax()) + 1 if right.any() else None,
            "right": bool(right[taken]),
            "right_at_full_depth": bool(right[-1]),
            "right_by_step": right.tolist(),
            "confidences": [round(p, 6) for p in self.sure[:, row].tolist()],
        }


def full_course(
    reasoner: RecursiveReasoner,
    batch: Batch,
    steps: int,
    is_right: Callable[[Tensor, Tensor], Tensor],
) -> Course:
    """Follow the full course of all `steps`; `is_right(logits, labels)` is bool [B]."""
    seen = [
        (step.logits.argmax(-1), is_right(step.logits, batch["labels"]), step.halting.sigmoid())
        for step in reasoner.at_depth(batch["tokens"], steps, batch.get("documents"))
    ]
    answers, right, sure = (torch.stack(each) for each in zip(*seen, strict=True))
    return Course(answers=answers, right=right, sure=sure)


def stops(course: Course, threshold: float, *, never: bool) -> Tensor:
    """int64 [B]: the step, from 0, at which each row is sure for the first time, or the last."""
    sure = course.sure > threshold
    if never:
        sure = torch.zeros_like(sure)
    sure[-1] = True
    return sure.int().argmax(0)


def asked_of(labels: Tensor, row: int, tokens: Tensor) -> list[int]:
    """The answers that row `row` of `labels` [B, T] asks for, out of `tokens` [T]."""
    asked: list[int] = tokens[labels[row] != IGNORED].tolist()
    return asked


def reasoner_of(model: nn.Module) -> RecursiveReasoner:
    """The reasoner itself, where `model` may be its compiled form."""
    inner: Any = getattr(model, "_orig_mod", model)
    if not isinstance(inner, RecursiveReasoner):
        raise TypeError(f"a deep supervision task trains a RecursiveReasoner, got {type(inner)}")
    return inner
