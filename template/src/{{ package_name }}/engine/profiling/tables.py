"""Profiles, benches and memory plans as lines for a terminal; each figure with its unit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .bench.workloads import fastest
from .counted.memory_plan import CONTEXT_BYTES, SLACK, Plan, shown

UNITS = {
    "_examples_per_s": "examples/s",
    "_flops_per_example": "FLOPs/example",
    "_bytes_per_example": "bytes/example",
    "_bytes": "bytes",
    "_flop_per_byte": "FLOP/byte",
    "_gb_per_s": "GB/s",
    "_gflop": "GFLOP",
    "_gflop_per_s": "GFLOP/s",
    "_j": "J",
    "_mb": "MB",
    "_ms": "ms",
    "_mib": "MiB",
    "_percent": "%",
    "_samples": "samples",
    "_iterations": "iterations",
    "_examples": "examples",
    "_steps": "steps",
    "_breaks": "breaks",
    "parameters": "parameters",
    "kernels_per_step": "kernels/step",
    "operator_calls_per_step": "calls/step",
    "launches_per_pass": "launches",
}
"""{end of a key: unit}; the first that fits counts."""
_WIDTH = 38


def unit_of(key: str) -> tuple[str, str]:
    """(what the figure is called, its unit). Raises KeyError for a key that names no unit."""
    for ending, unit in UNITS.items():
        if key.endswith(ending):
            label = key.removesuffix(ending) if ending.startswith("_") else key
            return label.replace("_", " "), unit
    raise KeyError(key)


def number(value: float) -> str:
    """Format a number for a table: thousands marked, or four digits that count."""
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def title(result: Mapping[str, Any]) -> str:
    """Title of a profile's table: subject, device, threads, precision, compilation."""
    name = f"run {result['run']}" if result["run"] else f"preset {result['preset']}"
    gpu = f" ({result['gpu']})" if result["gpu"] else ""
    plural = "" if result["threads"] == 1 else "s"
    compiled = "compiled" if result["compile"] else "not compiled"
    return (
        f"{result['task']}, {name}: {result['device']}{gpu}, {result['threads']} CPU "
        f"thread{plural}, torch {result['torch']}, {result['precision']}, {compiled}"
    )


def table(result: Mapping[str, Any]) -> str:
    """The whole profile."""
    lines = [title(result), "", f"Exact (counted on {result['exact']['counted_on']})"]
    lines += _figures(result["exact"])
    lines += ["  by module:"]
    lines += [
        f"    {name:<{_WIDTH - 2}} {number(count):>14} parameters"
        for name, count in result["exact"]["parameters_by_module"].items()
    ]
    measured = result["measured"]
    if measured is not None:
        lines += ["", f"Measured on {result['device']}"]
        lines += _figures(measured)
        lines += _lists(measured)
        lines += [f"  {text}" for text in _reasons(measured)]
        lines += ["", *_roofline(measured["roofline"])]
    return "\n".join(lines)


def _figures(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, int | float):
            label, unit = unit_of(key)
            yield f"  {label:<{_WIDTH}} {number(value):>14} {unit}"


def _lists(measured: Mapping[str, Any]) -> Iterator[str]:
    yield f"  throughput by batch (ended by {measured['throughput_stopped_by']}):"
    for row in measured["throughput_by_batch"]:
        size = f"{row['batch_examples']} examples"
        rate = number(row["throughput_examples_per_s"])
        yield f"    {size:<{_WIDTH - 2}} {rate:>14} examples/s"
    if "top_operators" in measured:
        yield f"  top operators by self time ({measured['operators_by']}) of a training step:"
    for row in measured.get("top_operators", []):
        name, share = row["operator"][: _WIDTH - 2], number(row["self_time_share_percent"])
        spent = number(row["self_time_ms"])
        yield f"    {name:<{_WIDTH - 2}} {spent:>14} ms, {share} %, {row['calls']} calls"


def _reasons(measured: Mapping[str, Any]) -> Iterator[str]:
    if measured["latency_batch1_p99_ms"] is None:
        yield "latency batch1 p99: none under 100 samples"
    for reason in dict.fromkeys(v for k, v in measured.items() if k.endswith("_reason") and v):
        yield f"not measured: {reason}"


def _roofline(roofline: Mapping[str, Any]) -> Iterator[str]:
    yield f"Roofline (ceilings measured here, {roofline['matmul_precision']})"
    yield from _figures(roofline)
    for name in ("forward", "training_step"):
        values = roofline[name]
        if values is None:
            continue
        yield f"  {name.replace('_', ' ')}:"
        yield from (f"  {line}" for line in _figures(values))
        yield from _operators(values["operators"])
        for reason in (values["energy_reason"], values["operators_reason"]):
            if reason is not None:
                yield f"    not measured: {reason}"


def _operators(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    columns = ("time_ms", "time_share_percent", "work_gflop", "moved_mb", "intensity_flop_per_byte")
    if rows:
        names = ("ms", "% of time", "GFLOP", "MB", "FLOP/byte")
        yield f"    {'operator':<{_WIDTH}}" + "".join(f"{x:>11}" for x in names) + "   bound:"
    for row in rows:
        shown = ("-" if row[name] is None else number(row[name]) for name in columns)
        reached = number(row["bound_reached_percent"])
        cells = "".join(f"{cell:>11}" for cell in shown)
        name = row["operator"][-_WIDTH:]
        yield f"    {name:<{_WIDTH}}{cells}   {row['bound']}, reached {reached} %"


def bench_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the bench's table: counted, measured, and the verdicts on both."""
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


def plan_lines(plan: Plan) -> list[str]:
    """Everything that is counted, what fits, and which flags to take."""
    counted = f"counted in {plan.precision} on {plan.counted_on}"
    lines = [f"what fits {shown(plan.memory_bytes)} ({counted})"]
    lines += [
        f"  {name.replace('_', ' '):<38}{shown(size):>12}"
        for name, size in plan.fixed_bytes.items()
    ]
    lines.append(f"  {'reserve':<38}{shown(CONTEXT_BYTES):>12} + {SLACK:.0%} of the rest")
    lines.append(f"  {'an example, itself and its loss':<38}{shown(plan.ends.per_example):>12}")
    for option in plan.options:
        name = "recomputed" if option.activation_checkpointing else "kept"
        line = plan.activations[option.activation_checkpointing]
        always = f" + {shown(line.constant)} at any size" if line.constant else ""
        label = f"an example, activations {name}"
        lines.append(f"  {label:<38}{shown(line.per_example):>12}{always}")
        fits = f"micro-batch {option.micro_batch} x {option.accumulation_steps} accumulation steps"
        said = fits if option.micro_batch else "not one example fits: it"
        lines.append(f"    {said} needs {shown(option.need_bytes)}")
    if plan.chosen is None:
        return [*lines, f"nothing fits: {plan.why}"]
    flag = str(plan.chosen.activation_checkpointing)
    return [
        *lines,
        f"take --training.accumulation_steps {plan.chosen.accumulation_steps} "
        f"--training.activation_checkpointing {flag} for the batch of {plan.batch_size}",
        f"because {plan.why}",
    ]
