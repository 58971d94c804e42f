"""A trained reasoner at work on puzzles, and what may be called a solution.

Every digit and every cell is the network's: nothing is searched, propagated or repaired. What
the rules or the given parts refuse is not a solution.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..models.act_head import Halted, filled_up
from ..models.serving.cuda_graph import Capture, captured
from ..models.serving.fused_block import fused
from ..models.serving.graphed_solving import GraphedReasoner
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


class BatchSolver:
    """What solves batch after batch with the weights of `model`, in eval mode on its device.

    On a GPU the first batch goes step by step and each later one by CUDA graphs of fused blocks:
    to record them takes the time of some batches, which a short file never gives back. So that
    few sizes are recorded, rows are filled up to a power of two by copies of the first, whose
    answers are dropped. `capture` records on other devices, too.
    """

    def __init__(self, model: nn.Module, *, capture: Capture | None = None) -> None:
        self._reasoner = reasoner_of(model)
        self.device = next(self._reasoner.parameters()).device
        self._capture = capture or (captured if self.device.type == "cuda" else None)
        self._graphed: GraphedReasoner | None = None
        self._is_first = True

    @torch.no_grad()
    def solve(self, tokens: Tensor, *, threshold: float, max_steps: int) -> Halted:
        """`RecursiveReasoner.solve` of tokens int64 [B, T]."""
        if self._is_first or self._capture is None:
            self._is_first = False
            return self._reasoner.solve(tokens, threshold=threshold, max_steps=max_steps)
        if self._graphed is None:
            self._graphed = GraphedReasoner(fused(self._reasoner), capture=self._capture)
        rows = torch.arange(len(tokens), device=tokens.device)
        rows = filled_up(rows, 2 * len(rows), "powers_of_two")
        found = self._graphed.solve(tokens[rows], threshold=threshold, max_steps=max_steps)
        return Halted(*(each[: len(tokens)] for each in found))


def attempt(
    task: PuzzleTask[Any],
    model: nn.Module | BatchSolver,
    puzzles: Sequence[str],
    *,
    threshold: float,
    max_steps: int,
) -> list[Attempt]:
    """Solve puzzles of the task's size together; rows that are sure leave early.

    `model` is in eval mode and on its device; for many batches, a `BatchSolver` that stays.
    """
    solver = model if isinstance(model, BatchSolver) else BatchSolver(model)
    began = time.perf_counter()
    tokens = torch.tensor([task.tokens(puzzle) for puzzle in puzzles], device=solver.device)
    halted = solver.solve(tokens, threshold=threshold, max_steps=max_steps)
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
