"""A trained reasoner at work on Sudoku puzzles, and what may be called a solution.

Every digit is the network's: nothing is searched, propagated or repaired. What the rules or the
given cells refuse is not a solution.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ..data.sudoku import EMPTY_TOKEN
from ..data.sudoku_rules import geometry_of, to_line
from .deep_supervision import reasoner_of


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
    model: nn.Module, puzzles: Sequence[bytes], *, threshold: float, max_steps: int
) -> list[Attempt]:
    """Solve puzzles of one size together; rows that are sure leave early.

    `model` is in eval mode and on its device.
    """
    reasoner = reasoner_of(model)
    device = next(reasoner.parameters()).device
    began = time.perf_counter()
    tokens = torch.tensor([list(puzzle) for puzzle in puzzles], device=device) + EMPTY_TOKEN
    with torch.no_grad():
        halted = reasoner.solve(tokens, threshold=threshold, max_steps=max_steps)
    # padding would be below the empty cell; neither is a digit
    grids = (halted.output.argmax(-1) - EMPTY_TOKEN).clamp_min(0).tolist()
    confidences = halted.logit.sigmoid().tolist()
    seconds = (time.perf_counter() - began) / len(puzzles)
    return [
        _judged(puzzle, bytes(grid), steps, confidence, seconds)
        for puzzle, grid, steps, confidence in zip(
            puzzles, grids, halted.steps.tolist(), confidences, strict=True
        )
    ]


def _judged(puzzle: bytes, grid: bytes, steps: int, confidence: float, seconds: float) -> Attempt:
    rules = geometry_of(puzzle)
    solved = rules.is_solution(grid) and rules.keeps_givens(puzzle, grid)
    return Attempt(
        puzzle=to_line(puzzle),
        solved=solved,
        solution=to_line(grid) if solved else None,
        steps=steps,
        confidence=confidence,
        seconds=seconds,
    )
