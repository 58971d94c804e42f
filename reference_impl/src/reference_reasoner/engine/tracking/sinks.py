"""Where records go. metrics.jsonl is the truth; every other sink replays it.

A record is {"kind": "train" | "evaluation", "step": int, name: number, ...}; a field that
depends on the clock starts with `wall_`.
"""

import importlib.util
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..atomic_write import replace_text
from ..config.run_config import TrackingConfig
from ..errors import RefusedInputError

Record = dict[str, Any]


class Sink(Protocol):
    """Something that takes records."""

    def write(self, record: Record) -> None:
        """Take one record."""

    def sync(self) -> None:
        """Return once everything taken is on the disk."""

    def close(self) -> None:
        """Take no more."""


class JsonlSink:
    """Appends each record as one line of JSON; a number that is not finite becomes null."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: Record) -> None:
        """Append one line and flush it to the operating system."""
        finite = {k: v if _is_json(v) else None for k, v in record.items()}
        self._file.write(json.dumps(finite, allow_nan=False) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Flush the file to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def read_records(path: Path) -> list[Record]:
    """Read all whole records of metrics.jsonl; a last line that a kill tore is left out.

    Raises RefusedInputError where another line is not JSON.
    """
    if not path.exists():
        return []
    records: list[Record] = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise RefusedInputError(f"{path}, line {number} is not JSON: {line[:80]!r}") from error
    return records


def keep_records(path: Path, wanted: Callable[[Record], bool]) -> list[Record]:
    """Rewrite metrics.jsonl with the wanted records only, and return them."""
    kept = [record for record in read_records(path) if wanted(record)]
    if path.exists():
        replace_text(path, "".join(json.dumps(record) + "\n" for record in kept))
    return kept


def open_sinks(run_dir: Path, tracking: TrackingConfig) -> list[Sink]:
    """The sinks that `tracking` asks for; those beside the JSONL first replay it.

    Raises RefusedInputError where one of them is not installed.
    """
    path = run_dir / "metrics.jsonl"
    sinks: list[Sink] = [JsonlSink(path)]
    if tracking.tensorboard:
        sinks.append(_tensorboard(run_dir / "tensorboard", read_records(path)))
    return sinks


def check_trackers(tracking: TrackingConfig) -> None:
    """Raise RefusedInputError for a tracker that this project lacks or has not installed."""
    if tracking.tensorboard:
        _tensorboard_sink()


def _tensorboard(folder: Path, records: list[Record]) -> Sink:
    sink: Sink = _tensorboard_sink()(folder, records)
    return sink


def _tensorboard_sink() -> Any:
    try:
        import tensorboard  # noqa: F401

        from . import tensorboard_sink
    except ImportError as error:
        if importlib.util.find_spec(f"{__package__}.tensorboard_sink") is None:
            raise RefusedInputError(
                "tracking.tensorboard is on, but this project was made without that tracker: turn "
                "it off, or choose the tracker in a `copier update`"
            ) from error
        raise RefusedInputError(
            f"tracking.tensorboard is on, but {error.name} cannot be imported: install the extra "
            "`tensorboard`"
        ) from error
    return tensorboard_sink.TensorBoardSink
