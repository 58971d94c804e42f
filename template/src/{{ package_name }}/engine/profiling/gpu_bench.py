"""A preset's size and, on a GPU, its speed and memory, held against budgets.toml."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..config.run_config import RuntimeConfig
from ..tracking.environment import environment
from ..training.task import Task
from .bench_steps import input_in_words
from .bench_table import repetition_in_words
from .benchmark import REPETITIONS, Repetition, budgeted, fastest, measurements, peaks, summary
from .bound import workload_bounds
from .budget import Budgets, Verdict, check_exact, check_measured, read_budgets
from .exact import exact_quantities
from .machine import Machine, this_machine
from .profile import Subject, exact_values, header

_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")


def gpu_machine() -> Machine | None:
    """This machine's GPU, or None."""
    return this_machine(RuntimeConfig(device="cuda")) if torch.cuda.is_available() else None


def ask_nvidia_smi(query: str) -> str | None:
    """nvidia-smi's answer for the first GPU, or None where it does not answer."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def clocks_mhz(ask: Callable[[str], str | None] = ask_nvidia_smi) -> dict[str, float] | None:
    """{clock: MHz} of the GPU as it is now; None where nobody knows."""
    answer = ask(",".join(_CLOCKS))
    values = [] if answer is None else [word.strip() for word in answer.split(",")]
    try:
        pairs = zip(_CLOCKS, map(float, values), strict=True)
        return {f"{name.replace('.', '_')}_mhz": value for name, value in pairs}
    except ValueError:
        return None


def bench(
    task: Task[Any],
    preset: str,
    machine: Machine | None,
    budgets_path: Path,
    repetitions: int = REPETITIONS,
    *,
    counted: bool = True,
) -> tuple[dict[str, Any], list[Verdict]]:
    """Everything gpu_bench.json holds, and the verdicts on it. `machine` is a GPU or None.

    Without `counted` exact quantities are left out, which need no GPU and may take a minute.
    """
    budgets = read_budgets(budgets_path)
    quantities = exact_quantities(task) if counted else None
    verdicts = check_exact(preset, budgets, quantities) if quantities else []
    here = machine or Machine(device=torch.device("cpu"), gpu=None)
    found = [] if machine is None else _measured(task, machine, repetitions)
    figures = budgeted(found) if found else {}
    flops = quantities.forward_flops_per_example if quantities else _known_flops(budgets, preset)
    verdicts += check_measured(preset, budgets, here.gpu, figures)
    around = environment()
    result = {
        **header(Subject(task=task, preset=preset), here),
        "driver": around["driver"],
        "python": around["python"],
        "commit": around["git"] and around["git"]["commit"],
        "dirty": around["git"] and around["git"]["dirty"],
        "exact": exact_values(quantities) if quantities else None,
        "training_step_input": input_in_words(task),
        "batch_examples": task.config.training.batch_size,
        "accumulation_steps": task.config.training.accumulation_steps,
        "repetitions": found,
        **_summary(found),
        "bounds_ms": workload_bounds(task, machine, flops) if machine else {},
        "budgeted": figures or None,
        "skipped": None if found else "no GPU",
        "verdicts": [each.text for each in verdicts],
    }
    return result, verdicts


def _known_flops(budgets: Budgets, preset: str) -> int | None:
    """Those that were counted when the preset's budget was accepted."""
    known: int | None = budgets.get(preset, {}).get("forward_flops_per_example")
    return known


def _measured(task: Task[Any], machine: Machine, repetitions: int) -> list[Repetition]:
    """All repetitions, each told as soon as it is over."""
    found: list[Repetition] = []
    for each in measurements(task, machine, repetitions):
        found.append({**each, "clocks": clocks_mhz()})
        print(repetition_in_words(len(found), repetitions, each["timings"]), flush=True)
    return found


def _summary(repetitions: list[Repetition]) -> dict[str, Any]:
    """What the table shows of them; null where nothing was measured."""
    rows = summary(repetitions)
    failures = [each["compile_failure"] for each in repetitions if each["compile_failure"]]
    used = fastest(rows) if rows else {}
    return {
        "summary": rows,
        "compile_failure": next(iter(failures), None),
        "latency_budget_of": {name: used[name] for name in ("workload", "mode")} if used else None,
        "peaks": peaks(repetitions) if repetitions else None,
    }
