"""A preset's quantities against its budgets; what takes a clock, only on a GPU that has one."""

from typing import Any

from .benchmark import budgeted, measurements
from .budget import Verdict, check_exact, check_measured
from .exact import ExactQuantities
from .machine import Machine
from .profile import Subject


def check(
    subject: Subject, quantities: ExactQuantities, budgets: dict[str, Any], machine: Machine
) -> list[Verdict]:
    """The verdict on each budget of the subject's preset.

    Nothing is measured unless a budget names the machine's GPU.
    """
    preset = subject.preset or "none"
    verdicts = check_exact(preset, budgets, quantities)
    if preset not in budgets:
        return verdicts
    figures: dict[str, float] = {}
    if names_gpu(budgets[preset], machine.gpu):
        figures = budgeted(list(measurements(subject.task, machine)))
    return verdicts + check_measured(preset, budgets, machine.gpu, figures)


def names_gpu(budget: dict[str, Any], gpu: str | None) -> bool:
    """Whether a preset's table has a limit for the GPU of that name."""
    return any(gpu in limits for limits in budget.values() if isinstance(limits, dict))


def over(verdicts: list[Verdict]) -> str:
    """Everything over budget and by how much, or nothing."""
    return "; ".join(verdict.text for verdict in verdicts if verdict.state == "over")
