"""A trained reasoner at work on puzzles, and what may be called a solution.

Every digit and every cell is the network's: nothing is searched, propagated or repaired. What
the rules or the given parts refuse is not a solution.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .course import reasoner_of
from .puzzles import PuzzleTask


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of one puzzle."""

    puzzle: str
    solved: bool
    solution: str | None
    """None where what the network wrote is no solution."""
    steps: int
    """Supervision steps taken."""
    confidence: float
    """The halting head's probability of being right, at the last step taken."""
    seconds: float
    """An even share of the time that its batch took."""


def attempt(
    task: PuzzleTask[Any],
    model: nn.Module,
    puzzles: Sequence[str],
    *,
    threshold: float,
    max_steps: int,
) -> list[Attempt]:
    """Solve puzzles of the task's size together; rows that are sure leave early.

    `model` is in eval mode and on its device.
    """
    reasoner = reasoner_of(model)
    device = next(reasoner.parameters()).device
    began = time.perf_counter()
    tokens = torch.tensor([task.tokens(puzzle) for puzzle in puzzles], device=device)
    with torch.no_grad():
        halted = reasoner.solve(tokens, threshold=threshold, max_steps=max_steps)
    answers = [task.answer(row) for row in halted.output.argmax(-1).tolist()]
    confidences = halted.logit.sigmoid().tolist()
    seconds = (time.perf_counter() - began) / len(puzzles)
    found = []
    rows = zip(puzzles, answers, halted.steps.tolist(), confidences, strict=True)
    for puzzle, answer, steps, confidence in rows:
        solved = task.is_solution(puzzle, answer)
        found.append(
            Attempt(
                puzzle=puzzle,
                solved=solved,
                solution=answer if solved else None,
                steps=steps,
                confidence=confidence,
                seconds=seconds,
            )
        )
    return found
