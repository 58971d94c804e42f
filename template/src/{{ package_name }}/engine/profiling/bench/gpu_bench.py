"""The GPU bench: latency and peak memory of a preset, repeated, and the verdicts on its budgets.

Nothing here needs a data set, so a figure is the same wherever it is measured.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...config.run_config import RuntimeConfig
from ...tracking.environment import environment
from ...training.task import Task
from ..budgets import LATENCY, Budgets, Verdict, check_exact, check_measured, limit_on, read_budgets
from ..counted.quantities import ExactQuantities, exact_quantities
from ..measured.machine import (
    Limits,
    Machine,
    memory_figures,
    percentile,
    percentiles,
    reset_memory,
    sample_ms,
    this_machine,
)
from ..measured.passes import benched_step, input_in_words
from ..profile_values import Subject, exact_values, header
from ..tables import repetition_in_words
from .workloads import Timing, fastest, timings, workload_bounds

LATENCY_LIMITS = Limits(warm_up=10, samples=300, box_s=6.0)
STEP_LIMITS = Limits(warm_up=1, samples=20, box_s=10.0)
REPETITIONS = 5
STEPS_BEFORE = 2
"""Steps before the peak is reset: then the optimizer's state and a carry are there."""

Repetition = dict[str, Any]


def repetition(
    task: Task[Any],
    machine: Machine,
    latency_limits: Limits = LATENCY_LIMITS,
    step_limits: Limits = STEP_LIMITS,
) -> Repetition:
    """Measure one repetition of the bench, latency and steps each with a fresh model."""
    timed, failure = timings(task, machine, latency_limits)
    step = benched_step(task, machine)
    for _ in range(STEPS_BEFORE):
        step()
    reset_memory(machine)
    samples = sample_ms(step, clock=machine.clock, device=machine.device, limits=step_limits)
    return {
        "timings": timed,
        "compile_failure": failure,
        **percentiles(samples, "training_step"),
        **memory_figures(machine, "training_step"),
    }


def measurements(
    task: Task[Any], machine: Machine, repetitions: int = REPETITIONS
) -> Iterator[Repetition]:
    """One after another; blocks that could not be compiled are not tried again."""
    for _ in range(repetitions):
        found = repetition(task, machine)
        if found["compile_failure"] is not None:
            machine = replace(machine, compiler=None)
        yield found


def summary(repetitions: Sequence[Repetition]) -> list[Timing]:
    """The medians and the largest peak of each workload, in each mode that it ran in."""
    workloads: dict[str, dict[str, list[Timing]]] = {}
    for each in repetitions:
        for timing in each["timings"]:
            modes = workloads.setdefault(timing["workload"], {})
            modes.setdefault(timing["mode"], []).append(timing)
    return [_middle(group) for modes in workloads.values() for group in modes.values()]


def _middle(group: list[Timing]) -> Timing:
    found = {name: group[0][name] for name in ("workload", "description", "mode")}
    for name in (f"latency_batch1_p{percent}_ms" for percent in (50, 90, 99)):
        values = [each[name] for each in group if each[name] is not None]
        found[name] = percentile(values, 50) if values else None
    for kind in ("allocated", "reserved"):
        found |= _largest(group, f"inference_batch1_peak_{kind}_mib")
    return found


def _largest(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float | None]:
    """{name: the largest}, None where one could not be measured."""
    values = [row[name] for row in rows]
    return {name: None if None in values else max(values)}


def peaks(repetitions: Sequence[Repetition]) -> dict[str, float | None]:
    """The largest peaks of a training step, and of inference over all workloads and modes."""
    timed = [timing for each in repetitions for timing in each["timings"]]
    found: dict[str, float | None] = {}
    for kind in ("allocated", "reserved"):
        found |= _largest(repetitions, f"training_step_peak_{kind}_mib")
        found |= _largest(timed, f"inference_batch1_peak_{kind}_mib")
    return found


def budgeted(repetitions: Sequence[Repetition]) -> dict[str, float]:
    """{quantity of budgets.toml: its value}, without those that could not be measured.

    `latency_p50_ms` is that of the first workload in its fastest mode, by medians over the
    repetitions, `NAME_latency_p50_ms` that of each other workload that the task names; memory is
    the largest that was allocated.
    """
    largest, rows = peaks(repetitions), summary(repetitions)
    figures = {
        LATENCY: fastest(rows)["latency_batch1_p50_ms"],
        "inference_peak_vram_mib": largest["inference_batch1_peak_allocated_mib"],
        "peak_vram_mib": largest["training_step_peak_allocated_mib"],
    }
    for name in dict.fromkeys(row["workload"] for row in rows[1:]):
        if name != rows[0]["workload"]:
            figures[f"{name}_{LATENCY}"] = fastest(rows, name)["latency_batch1_p50_ms"]
    return {name: value for name, value in figures.items() if value is not None}


def check(
    subject: Subject, quantities: ExactQuantities, budgets: dict[str, Any], machine: Machine
) -> list[Verdict]:
    """Check each GPU budget of the subject's preset: the verdicts of the bench.

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
    """Say everything over a GPU budget and by how much, or nothing."""
    return "; ".join(verdict.text for verdict in verdicts if verdict.state == "over")


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
    """Measure all repetitions of the bench, each told as soon as it is over."""
    found: list[Repetition] = []
    for each in measurements(task, machine, repetitions):
        found.append({**each, "clocks": clocks_mhz()})
        print(repetition_in_words(len(found), repetitions, each["timings"]), flush=True)
    return found


def _summary(repetitions: list[Repetition]) -> dict[str, Any]:
    """Summary of the bench's repetitions for its table; null where nothing was measured."""
    rows = summary(repetitions)
    failures = [each["compile_failure"] for each in repetitions if each["compile_failure"]]
    used = fastest(rows) if rows else {}
    return {
        "summary": rows,
        "compile_failure": next(iter(failures), None),
        "latency_budget_of": {name: used[name] for name in ("workload", "mode")} if used else None,
        "peaks": peaks(repetitions) if repetitions else None,
    }
