"""The section of docs/results.md about speed and memory on a GPU, from results/gpu/*.json."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .gpu_tables import FOLDER
from .peer_tables import judged, measured_on
from .stored import head, row

BENCHED = ("grid25m", "lm25m")
"""Presets that `gpu_bench` measures."""
COMPARED = ("inference", "training_step", "decode")
"""Scripts of benchmarks/."""
COMMAND = "python -m benchmarks.gpu_rows --out results/gpu --official CHECKOUT"


def rows_of_a_gpu(folder: Path = FOLDER) -> list[str]:
    """What was measured on a GPU, line by line, and what is left to run."""
    lines = ["## Speed on a GPU", ""]
    there = {name: _read(folder / f"{name}.json") for name in (*BENCHED, *COMPARED)}
    for name, found in there.items():
        if found is not None:
            lines += [*(_benched if name in BENCHED else _compared)(name, found), ""]
    left = [f"`{name}`" for name, found in there.items() if found is None or _is_old(name, found)]
    if left:
        lines += [f"Left to run: `{COMMAND}`, ten minutes, for {', '.join(left)}.", ""]
    return lines


def summary(folder: Path = FOLDER) -> list[str]:
    """The README's table of goals on a GPU: reached, missed, or not measured."""
    found = {name: _read(folder / f"{name}.json") for name in COMPARED}
    measured = {name: each for name, each in found.items() if each is not None}
    gpus = dict.fromkeys(each["machine"]["gpu"] for each in measured.values())
    lines = head([f"goals on a GPU ({', '.join(gpus)})", "asked", "measured", "goal"])
    for each in measured.values():
        lines += [
            row(
                (
                    line["claim"],
                    line["required"],
                    re.sub(r" in \d+ repetitions\).*", ")", line["measured"]),
                    "reached" if line["holds"] else "**missed**",
                )
            )
            for line in each["lines"]
            if line["holds"] is not None
        ]
    left = [name for name in (*BENCHED, *COMPARED) if not (folder / f"{name}.json").exists()]
    return lines + [row((f"`{name}`", "", "", "not measured yet")) for name in left]


def _is_old(name: str, found: Mapping[str, Any]) -> bool:
    """Whether it was measured in another form than the command's."""
    return name == "decode" and not (found.get("fused") and found["compiled"])


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def _compared(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"`benchmarks/{name}.py`: {measured_on(found)}{_form(found)}."
    yield ""
    yield from head(["what", "required", "measured", ""])
    yield from judged(found["lines"])


def _form(found: Mapping[str, Any]) -> str:
    """What was decoded, and how; nothing of other scripts."""
    if "graph" not in found:
        return ""
    how = "by a CUDA graph" if found["graph"] else "eager"
    blocks = "blocks compiled" if found["compiled"] else "blocks not compiled"
    fused = ", steps fused" if found.get("fused") else ""
    return f"; `{found['model']['preset']}` in {found['model']['dtype']}, {how}, {blocks}{fused}"


def _benched(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"`gpu_bench --preset {name}`: {found['gpu']}, torch {found['torch']}, commit"
    yield f"{found['commit'] or 'unknown'}, {len(found['repetitions'])} repetitions."
    yield ""
    yield from head(["workload at batch 1", "mode", "p50", "of the bound"])
    for each in found["summary"]:
        p50, bound = each["latency_batch1_p50_ms"], found["bounds_ms"].get(each["workload"])
        reached = "" if bound is None else f"{100 * bound / p50:.0f} %"
        said = f"`{each['workload']}`: {each['description']}"
        yield row([said, each["mode"], f"{p50:.3g} ms", reached])
    yield ""
    if found["compile_failure"]:
        yield f"A mode could not be measured: {found['compile_failure']}."
        yield ""
    yield from (f"- {text}" for text in found["verdicts"] if "skipped" not in text)
