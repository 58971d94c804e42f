"""budgets.toml: what a preset's model may cost, one table a preset.

Exact quantities always count. Latency and memory are limits for the GPU that they name, in
tables of their own: `[default.latency_p50_ms]`, `"NVIDIA H200" = 1.5`. A limit for `"any GPU"`
holds on those that the table does not name.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..atomic_write import replace_text
from ..config.fields import suggestion
from ..errors import RefusedInputError
from .counted.quantities import ExactQuantities

LATENCY = "latency_p50_ms"
PEAKS = ("inference_peak_vram_mib", "peak_vram_mib")
"""Measured peaks of memory; the last is that of training."""
_OF_A_WORKLOAD = re.compile(rf"([A-Za-z]\w*)_{LATENCY}")
"""The latency of a workload that the task names beside its first: `short_latency_p50_ms`."""
ANY_GPU = "any GPU"

Budgets = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One quantity against its budget."""

    name: str
    measured: float | None
    budget: float | None
    state: Literal["ok", "over", "under", "skipped"]
    text: str


def read_budgets(path: Path) -> Budgets:
    """The tables of budgets.toml; none where there is no file.

    Raises RefusedInputError for a name that is no quantity and a value that is no limit.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RefusedInputError(f"{path} cannot be read: {error}") from error
    for preset, table in tables.items():
        if not isinstance(table, dict):
            raise RefusedInputError(f"{path}: {preset} = {table!r} is no table: write [PRESET]")
        for name, value in table.items():
            _check_entry(path, preset, name, value)
    return tables


def _check_entry(path: Path, preset: str, name: str, value: Any) -> None:
    where = f"{path}: {name} of [{preset}]"
    if name in (LATENCY, *PEAKS) or _OF_A_WORKLOAD.fullmatch(name):
        if not isinstance(value, dict) or not all(map(_is_limit, value.values())):
            raise RefusedInputError(
                f'{where} is {value!r}: write [{preset}.{name}] and below it "GPU NAME" = LIMIT, '
                f'or "{ANY_GPU}" = LIMIT'
            )
    elif name not in _exact_names():
        known = [*_exact_names(), LATENCY, *PEAKS]
        near = suggestion(name, known) or f" (known: {', '.join(known)})"
        raise RefusedInputError(f"{where} is {value!r}, but there is no such quantity{near}")
    elif not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise RefusedInputError(f"{where} is {value!r}: give a whole number, 0 or more")


def _is_limit(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _exact_names() -> list[str]:
    types = ExactQuantities.__annotations__
    return sorted(name for name, kind in types.items() if kind is int)


def check_exact(
    preset: str, budgets: Mapping[str, Any], quantities: ExactQuantities
) -> list[Verdict]:
    """A verdict on each exact quantity; one that says so for a preset without a budget."""
    if preset not in budgets:
        text = f"skipped: no budget for {preset}"
        return [Verdict(name=preset, measured=None, budget=None, state="skipped", text=text)]
    table = budgets[preset]
    return [_exact(name, value, table.get(name)) for name, value in quantities.budgeted().items()]


def _exact(name: str, value: int, budget: int | None) -> Verdict:
    state: Literal["ok", "over", "under", "skipped"] = "ok"
    text = f"{name} {value} is its budget"
    if budget is None:
        state, text = "skipped", f"{name} {value}: skipped: no budget"
    elif value > budget:
        state, text = "over", f"{name} {value} is over the budget {budget} by {value - budget}"
    elif value < budget:
        state = "under"
        text = f"{name} {value} is below its budget {budget}: `profile --accept` tightens it"
    return Verdict(name=name, measured=value, budget=budget, state=state, text=text)


def limit_on(gpu: str | None, limits: Mapping[str, float]) -> str | None:
    """Whose of `limits` holds on `gpu`: its own, else that of any GPU; None for neither."""
    return next((name for name in (gpu, gpu and ANY_GPU) if name in limits), None)


def check_measured(
    preset: str, budgets: Mapping[str, Any], gpu: str | None, measured: Mapping[str, float]
) -> list[Verdict]:
    """A verdict on each limit that a GPU has; those that do not hold on `gpu` are skipped."""
    verdicts = []
    table = budgets.get(preset, {})
    workloads = {name: found[1] for name in table if (found := _OF_A_WORKLOAD.fullmatch(name))}
    for name in (LATENCY, *workloads, *PEAKS):
        limits = table.get(name, {})
        for known, limit in limits.items():
            if known == limit_on(gpu, limits) and name in measured:
                verdicts.append(_measured(name, measured[name], limit, known))
                continue
            why = f"no {known}"
            if measured and known == limit_on(gpu, limits) and name in workloads:
                why = f"the task has no workload {workloads[name]!r} beside its first"
            elif known == ANY_GPU:
                why = f"{gpu} has a limit of its own" if gpu in limits else "no GPU"
            verdicts.append(_skipped(name, limit, why))
    return verdicts


def _skipped(name: str, limit: float, why: str) -> Verdict:
    text = f"{name}: skipped: {why}"
    return Verdict(name=name, measured=None, budget=limit, state="skipped", text=text)


def _measured(name: str, value: float, limit: float, gpu: str) -> Verdict:
    where = f"the budget {limit:g} on {gpu}"
    if value > limit:
        text = f"{name} {value:.4g} is over {where} by {value - limit:.4g}"
        return Verdict(name=name, measured=value, budget=limit, state="over", text=text)
    text = f"{name} {value:.4g} is within {where}"
    return Verdict(name=name, measured=value, budget=limit, state="ok", text=text)


def accept(path: Path, preset: str, quantities: ExactQuantities) -> None:
    """Accept the exact quantities as the preset's budgets; all else in the file stays.

    Raises RefusedInputError, and writes nothing, where the file cannot be read or says it in
    another form than one table a preset and one quantity a line.
    """
    tables = read_budgets(path)
    counted = quantities.budgeted()
    text = _accepted(path.read_bytes().decode() if path.exists() else "", preset, counted)
    if _tables(text) != {**tables, preset: {**tables.get(preset, {}), **counted}}:
        raise RefusedInputError(
            f"{path}: the budgets of {preset} are written in a form that is not edited: write "
            f"them below a line [{preset}], one NAME = NUMBER a line"
        )
    replace_text(path, text)


def _tables(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _accepted(text: str, preset: str, counted: Mapping[str, int]) -> str:
    """budgets.toml's text with what was `counted` as the preset's budgets; other bytes stay."""
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    lines = text.replace("\r\n", "\n").split("\n")
    starts = [at for at, line in enumerate(lines, start=1) if _is_header(line, preset)]
    if not starts:
        while lines and not lines[-1].strip():
            lines.pop()
        name = preset if re.fullmatch(r"[\w-]+", preset, re.ASCII) else json.dumps(preset)
        lines += [*([""] if lines else []), f"[{name}]", ""]
        starts = [len(lines) - 1]
    start = starts[0]
    ends = (at for at in range(start, len(lines)) if lines[at].lstrip().startswith("["))
    end = next(ends, len(lines))
    table = lines[start:end]
    for name, value in counted.items():
        table = _with_entry(table, name, value)
    return end_of_line.join([*lines[:start], *table, *lines[end:]])


def _is_header(line: str, preset: str) -> bool:
    return line.lstrip().startswith("[") and _tables(line) == {preset: {}}


def _with_entry(table: list[str], name: str, value: int) -> list[str]:
    """A budget table's lines with `name = value`, in its old place or in alphabetical order."""
    entry = re.compile(r"(\s*[\"']?(\w+)[\"']?\s*=\s*)[\w+-]+(\s*(?:#.*)?)")
    before = 0
    for at, line in enumerate(table):
        found = entry.fullmatch(line)
        if found and found[2] == name:
            return [*table[:at], f"{found[1]}{value}{found[3]}", *table[at + 1 :]]
        if found and found[2] < name:
            before = at + 1
    return [*table[:before], f"{name} = {value}", *table[before:]]
