"""A preset's quantities against its budgets; what takes a clock, only on a GPU that has one."""

from typing import Any

from .benchmark import budgeted, measurements
from .budget import Verdict, check_exact, check_measured, limit_on
from .exact import ExactQuantities
from .machine import Machine
from .profile import Subject


def check(
    subject: Subject, quantities: ExactQuantities, budgets: dict[str, Any], machine: Machine
) -> list[Verdict]:
    """The verdict on each budget of the subject's preset.

    Nothing is measured unless a budget has a limit for the machine's GPU.
    """
    preset = subject.preset or "none"
    verdicts = check_exact(preset, budgets, quantities)
    if preset not in budgets:
        return verdicts
    figures: dict[str, float] = {}
    if has_limits(budgets[preset], machine.gpu):
        figures = budgeted(list(measurements(subject.task, machine)))
    return verdicts + check_measured(preset, budgets, machine.gpu, figures)


def has_limits(budget: dict[str, Any], gpu: str | None) -> bool:
    """Whether a preset's table has a limit that holds on the GPU of that name."""
    tables = [limits for limits in budget.values() if isinstance(limits, dict)]
    return any(limit_on(gpu, limits) is not None for limits in tables)


def over(verdicts: list[Verdict]) -> str:
    """Everything over budget and by how much, or nothing."""
    return "; ".join(verdict.text for verdict in verdicts if verdict.state == "over")
