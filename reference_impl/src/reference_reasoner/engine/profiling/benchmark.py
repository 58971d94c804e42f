"""The figures that have budgets on a GPU: latency at batch 1, and peak memory.

Nothing here needs a data set, so a figure is the same wherever it is measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..training.task import Task
from .bench_steps import benched_step
from .machine import Machine, memory_figures, reset_memory
from .timing import Limits, percentile, percentiles, sample_ms
from .workloads import Timing, timings

LATENCY_LIMITS = Limits(warm_up=10, samples=300, box_s=6.0)
STEP_LIMITS = Limits(warm_up=1, samples=20, box_s=10.0)
REPETITIONS = 5
HALTING = "halting"
"""The workload whose latency has a budget beside the first one's."""
STEPS_BEFORE = 2
"""Steps before the peak is reset: then the optimizer's state and a carry are there."""

Repetition = dict[str, Any]


def repetition(
    task: Task[Any],
    machine: Machine,
    latency_limits: Limits = LATENCY_LIMITS,
    step_limits: Limits = STEP_LIMITS,
) -> Repetition:
    """One measurement of all figures, latency and steps each with a fresh model."""
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


def fastest(summarised: Sequence[Timing], workload: str | None = None) -> Timing:
    """The timing of a workload, else of the first one, in the mode with the lowest p50."""
    name = workload or summarised[0]["workload"]
    of_it = [row for row in summarised if row["workload"] == name]
    return min(of_it, key=lambda row: float(row["latency_batch1_p50_ms"]))


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

    `latency_p50_ms` is that of the first workload in its faster mode, by medians over the
    repetitions, `halting_latency_p50_ms` that of the workload `halting` where the task has it;
    memory is the largest that was allocated.
    """
    largest, rows = peaks(repetitions), summary(repetitions)
    figures = {
        "latency_p50_ms": fastest(rows)["latency_batch1_p50_ms"],
        "inference_peak_vram_mib": largest["inference_batch1_peak_allocated_mib"],
        "peak_vram_mib": largest["training_step_peak_allocated_mib"],
    }
    if any(row["workload"] == HALTING for row in rows):
        figures["halting_latency_p50_ms"] = fastest(rows, HALTING)["latency_batch1_p50_ms"]
    return {name: value for name, value in figures.items() if value is not None}
