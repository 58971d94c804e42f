"""Predictions on the disk: the rows, and beside them what they are of and how they scored."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic_write import replace_text
from ..training.task import Row
from .predictions import write_rows

_IDENTITY = ("split", "weights_sha256", "data_fingerprint", "steps")


def store(run_dir: Path, rows: Sequence[Row], result: Mapping[str, Any]) -> Path:
    """Write `<split>-<weights>-<data>.jsonl` below the run's predictions, and its result beside."""
    path = _path(run_dir, result)
    write_rows(path, rows)
    sealed = {**result, "rows_sha256": _sha256(path)}
    replace_text(path.with_suffix(".json"), json.dumps(sealed, indent=2) + "\n")
    return path


def find_stored(run_dirs: Iterable[Path], facts: Mapping[str, Any]) -> Path | None:
    """Undamaged predictions of these weights on this split of this data, if a run has them."""
    for run_dir in run_dirs:
        path = _path(run_dir, facts)
        result = read_result(path.with_suffix(".json"))
        same = result is not None and all(result.get(key) == facts.get(key) for key in _IDENTITY)
        if result is not None and same and path.exists() and _sha256(path) == result["rows_sha256"]:
            return path
    return None


def results(run_dir: Path) -> list[dict[str, Any]]:
    """Every result below the run's predictions, those that cannot be read left out."""
    paths = sorted((run_dir / "predictions").glob("*.json"))
    return [result for path in paths if (result := read_result(path)) is not None]


def split_name(result: Mapping[str, Any]) -> str:
    """What was scored, for people: the split or file, and the steps where they were asked for."""
    name = f"file {result['file']}" if result["split"] == "file" else f"{result['split']}"
    return f"{name}, {result['steps']} steps" if result.get("steps") else name


def read_result(path: Path) -> dict[str, Any] | None:
    """The result at `path`; None where there is none, or it is damaged."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and "rows_sha256" in result else None


def _path(run_dir: Path, facts: Mapping[str, Any]) -> Path:
    name = f"{facts['split']}-{facts['weights_sha256'][:12]}-{facts['data_fingerprint'][:12]}"
    if facts.get("steps"):
        name += f"-{facts['steps']}-steps"
    return run_dir / "predictions" / f"{name}.jsonl"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
