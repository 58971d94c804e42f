"""What gpu_bench found, as lines for a terminal; each figure with its unit and what it is of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .benchmark import fastest
from .table import number, title, unit_of

_WIDTH = 38


def bench_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What was counted, what was measured, and the verdicts on both."""
    yield title(result)
    if result["exact"] is not None:
        yield from _exact(result["exact"])
    if result["repetitions"]:
        yield from _latencies(result)
        yield from _peaks(result)
    yield "Budgets"
    yield from (f"  {text}" for text in result["verdicts"])
    if result["skipped"]:
        yield f"skipped: {result['skipped']}"


def _exact(quantities: Mapping[str, Any]) -> Iterator[str]:
    yield f"Exact (counted on {quantities['counted_on']})"
    for name, value in quantities.items():
        if isinstance(value, int):
            yield f"  {name:<{_WIDTH}} {number(value):>18} {unit_of(name)[1]}"


def _latencies(result: Mapping[str, Any]) -> Iterator[str]:
    count = len(result["repetitions"])
    yield f"Latency at batch 1, median of {count} repetition{'' if count == 1 else 's'}"
    said = None
    for row in result["summary"]:
        if row["workload"] != said:
            said = row["workload"]
            yield f"  {said}: {row['description']}"
            yield from _bound(result, said)
        yield f"    {row['mode']:<{_WIDTH - 2}} {percentiles_in_words(row)}"
    if result["compile_failure"] is not None:
        yield f"  a mode could not be measured: {result['compile_failure']}"
    used = result["latency_budget_of"]
    yield f"  latency_p50_ms is that of {used['workload']}, {used['mode']}"


def _bound(result: Mapping[str, Any], workload: str) -> Iterator[str]:
    """How near the fastest mode comes to what the machine allows."""
    bound_ms = result["bounds_ms"].get(workload)
    if bound_ms is not None:
        best = fastest(result["summary"], workload)["latency_batch1_p50_ms"]
        share = f"{100 * bound_ms / best:.0f} % of it reached"
        yield f"    {'bound':<{_WIDTH - 2}} {number(bound_ms)} ms, {share}"


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
