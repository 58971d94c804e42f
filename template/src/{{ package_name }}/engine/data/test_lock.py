"""The test split is opened once; whoever opens it again says why, in a file that git keeps.

Each look at the test split that leads to a change makes its score more of a training score.
The ledger `test_ledger.jsonl` at the project's root has a line an opening.
"""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ..errors import RefusedInputError
from ..project import project_root

Opening = dict[str, Any]
_FACTS = ("time", "data_fingerprint", "run", "weights_sha256")


def ledger_path() -> Path:
    """Path of the ledger of test-split openings, whether or not it exists."""
    return project_root() / "test_ledger.jsonl"


def read_ledger(path: Path) -> list[Opening]:
    """Read all openings of the test split. Raises RefusedInputError for a line that is none."""
    if not path.exists():
        return []
    openings = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            opening = json.loads(line)
            openings.append({**opening, **{fact: opening[fact] for fact in _FACTS}})
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedInputError(
                f"{path}, line {number} is no opening: {line[:60]!r}; restore it from git"
            ) from error
    return openings


def request_opening(
    path: Path,
    *,
    fingerprint: str,
    weights_sha256: str,
    again: str | None,
    steps: int | None = None,
) -> Literal["open", "replay"]:
    """May the test split of this data be scored with these weights?

    `replay`: these very weights were scored on this data with as many `steps` of the model's
    own, so their stored predictions tell nothing new. `open`: the first time, or again with a
    reason. Raises RefusedInputError otherwise.
    """
    openings = [o for o in read_ledger(path) if o["data_fingerprint"] == fingerprint]
    if any(o["weights_sha256"] == weights_sha256 and o.get("steps") == steps for o in openings):
        return "replay"
    if not openings or (again and again.strip()):
        return "open"
    last = openings[-1]
    raise RefusedInputError(
        f"the test split of this data was opened on {last['time']} for run {last['run']}: a "
        'second look makes its score a training score; if you must, say why with --again "REASON"'
    )


def record_opening(path: Path, opening: Opening) -> None:
    """Record an opening of the test split, flushed to the disk before the split is looked at."""
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **opening})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
