"""What gpu_bench found, as lines for a terminal; each figure with its unit and what it is of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .table import number, title, unit_of

_WIDTH = 38


def bench_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What was counted, what was measured, and the verdicts on both."""
    yield title(result)
    yield f"Exact (counted on {result['exact']['counted_on']})"
    for name, value in result["exact"].items():
        if isinstance(value, int):
            yield f"  {name:<{_WIDTH}} {number(value):>18} {unit_of(name)[1]}"
    if result["repetitions"]:
        yield from _latencies(result)
        yield from _peaks(result)
    yield "Budgets"
    yield from (f"  {text}" for text in result["verdicts"])
    if result["skipped"]:
        yield f"skipped: {result['skipped']}"


def _latencies(result: Mapping[str, Any]) -> Iterator[str]:
    count = len(result["repetitions"])
    yield f"Latency at batch 1, median of {count} repetition{'' if count == 1 else 's'}"
    said = None
    for row in result["summary"]:
        if row["workload"] != said:
            said = row["workload"]
            yield f"  {said}: {row['description']}"
        yield f"    {row['mode']:<{_WIDTH - 2}} {percentiles_in_words(row)}"
    if result["compile_failure"] is not None:
        yield f"  blocks could not be compiled: {result['compile_failure']}"
    used = result["latency_budget_of"]
    yield f"  latency_p50_ms is that of {used['workload']}, {used['mode']}"


def percentiles_in_words(row: Mapping[str, Any]) -> str:
    """p50, p90 and p99 with their unit."""
    parts = []
    for percent in (50, 90, 99):
        value = row[f"latency_batch1_p{percent}_ms"]
        parts.append(f"p{percent} " + ("none" if value is None else f"{number(value)} ms"))
    return ", ".join(parts)


def _peaks(result: Mapping[str, Any]) -> Iterator[str]:
    yield "Peak memory, the largest of all repetitions"
    rows, parts = result["batch_examples"], result["accumulation_steps"]
    step = f"a training step of {rows} examples in {parts} micro-batch{'' if parts == 1 else 'es'}"
    yield f"  {step}: {_memory(result['peaks'], 'training_step')}"
    yield f"    on {result['training_step_input']}"
    yield f"  inference at batch 1: {_memory(result['peaks'], 'inference_batch1')}"


def _memory(peaks: Mapping[str, float | None], name: str) -> str:
    parts = []
    for kind in ("allocated", "reserved"):
        value = peaks[f"{name}_peak_{kind}_mib"]
        parts.append(f"{kind} " + ("unknown" if value is None else f"{number(value)} MiB"))
    return ", ".join(parts)


def repetition_in_words(count: int, of: int, timings: Sequence[Mapping[str, Any]]) -> str:
    """One repetition, as soon as it is over: the median of each workload in each mode."""
    said = ", ".join(
        f"{row['workload']} {row['mode']} {number(row['latency_batch1_p50_ms'])} ms"
        for row in timings
    )
    return f"repetition {count} of {of}: p50 of {said}"
