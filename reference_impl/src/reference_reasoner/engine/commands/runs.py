"""`runs`: every run of the project, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ..project import Project, runs_folder
from ..tracking.run_directory import list_runs
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Print every run below runs/."""
    parser = Parser("runs", description="List every run below runs/.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    flags = parser.parse_strictly(argv)
    runs = list_runs(runs_folder())
    print(json.dumps([summary(run) for run in runs], indent=2) if flags.json else runs_table(runs))
    return 0


_COLUMNS = ("name", "status", "task", "preset", "step", "score", "age")


def summary(run: Mapping[str, Any]) -> dict[str, Any]:
    """What `runs --json` says of one run: status, task, preset, steps, best score, age in s."""
    best = run.get("best") or {}
    created = run.get("created_at")
    age = datetime.now(UTC) - datetime.fromisoformat(created) if created else None
    return {
        "name": run["name"],
        "path": run["path"],
        "status": run["status"],
        "task": run.get("task"),
        "preset": run.get("preset"),
        "step": run.get("step"),
        "steps": run.get("steps"),
        "metric": best.get("metric"),
        "score": best.get("value"),
        "age_s": None if age is None else round(age.total_seconds()),
    }


def runs_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Table of all runs for `runs`, oldest first."""
    if not runs:
        return "no runs yet: `train` makes the first"
    rows = [_COLUMNS, *(_row(summary(run)) for run in runs)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    score = "-" if run["score"] is None else f"{run['metric']} {run['score']:.4f}"
    step = "-" if run["step"] is None else f"{run['step']}/{run['steps']}"
    return (
        run["name"],
        run["status"],
        run["task"] or "-",
        run["preset"] or "-",
        step,
        score,
        _age(run["age_s"]),
    )


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
