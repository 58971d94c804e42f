"""The doctor: runs what REPRODUCIBILITY.md claims, as far as it can run here."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..seeding import set_determinism, set_threads
from ..tracking.manifest import RunManifest
from ..training.session import MakeEvaluator
from ..training.task import Task
from .data_items import data_items
from .examination import Examination, Launch
from .items import Item, Outcome, run_item
from .run_items import run_items
from .training_items import training_items


def items(exam: Examination) -> list[Item]:
    """Every item of REPRODUCIBILITY.md."""
    return [*data_items(exam), *training_items(exam), *run_items(exam)]


def examine(
    task_name: str,
    task_type: type[Task[Any]],
    run: RunManifest | None,
    *,
    budgets: Path,
    make_evaluator: MakeEvaluator,
    launch: Launch,
    say: Callable[[str], None],
) -> list[Outcome]:
    """Look at every item with the task's smoke preset and, where there is one, a run.

    Trains in a temporary folder only. Each outcome is said as soon as it is known.
    """
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        exam = Examination(
            task_name=task_name,
            task_type=task_type,
            folder=Path(folder),
            make_evaluator=make_evaluator,
            launch=launch,
            run=run,
            budgets=budgets,
        )
        set_threads(exam.config.runtime.threads)
        set_determinism(exam.config.runtime.determinism)
        return say_all(items(exam), say)


def say_all(todo: Sequence[Item], say: Callable[[str], None]) -> list[Outcome]:
    """Run the items one by one and say each line."""
    outcomes = []
    for item in todo:
        outcome = run_item(item)
        say(outcome.line())
        outcomes.append(outcome)
    return outcomes


def failures(outcomes: Sequence[Outcome]) -> str:
    """The names of the items that failed, or nothing."""
    return ", ".join(outcome.name for outcome in outcomes if outcome.state == "failed")
