"""A profile as lines for a terminal; each figure with its unit."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    """Whole numbers with thousands marked, others with four digits that count."""
    if isinstance(value, int) or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def title(result: Mapping[str, Any]) -> str:
    """What was profiled, and device, threads, precision and compilation."""
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
