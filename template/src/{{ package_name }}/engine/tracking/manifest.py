"""run.json: what a run is, how it ended, and what it was made with."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..atomic_write import replace_text
from ..errors import RefusedInputError

SCHEMA = 1


class RunManifest:
    """The run.json of one run directory; every update replaces the file as a whole."""

    def __init__(self, run_dir: Path, data: dict[str, Any]) -> None:
        self.run_dir = run_dir
        self.data = data

    @classmethod
    def create(cls, run_dir: Path, **facts: Any) -> "RunManifest":
        """Begin the run.json of a new run with status `running`."""
        manifest = cls(
            run_dir,
            {
                "schema": SCHEMA,
                "name": run_dir.resolve().name,
                "status": "running",
                "created_at": _now(),
                "step": 0,
                "stop_step": None,
                "stop_reason": None,
                "error": None,
                "best": None,
                "final_metrics": {},
                "weights_sha256": None,
                "state_sha256": None,
            },
        )
        manifest.update(**facts)
        return manifest

    @classmethod
    def load(cls, run_dir: Path) -> "RunManifest":
        """Read a run's run.json. Raises RefusedInputError where there is none, or it is broken."""
        path = run_dir / "run.json"
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RefusedInputError(
                f"{run_dir} is not a run: it holds no run.json; `runs` lists the runs there are"
            ) from error
        except (OSError, ValueError) as error:
            raise RefusedInputError(f"{path} cannot be read: {error}") from error
        if not isinstance(data, dict) or data.get("schema") != SCHEMA:
            raise RefusedInputError(
                f"{path} is not of schema {SCHEMA}: it was not written by train"
            )
        return cls(run_dir, data)

    def update(self, **facts: Any) -> None:
        """Set `facts` and write the file; a kill leaves the old file or the new one."""
        self.data = {**self.data, **facts, "updated_at": _now()}
        replace_text(self.run_dir / "run.json", json.dumps(self.data, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
