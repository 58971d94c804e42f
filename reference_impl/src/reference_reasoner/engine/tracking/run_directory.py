"""Run directories: choosing one, holding one, finding one, listing them."""

import difflib
import fcntl
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import RefusedInputError
from ..project import runs_folder
from .manifest import RunManifest


def resolve(run_dir: Path | None, resume: bool) -> Path:
    """The run directory to train in: the one named, or the next free number below `runs/`.

    Raises RefusedInputError for a resume that names none.
    """
    if run_dir is not None:
        return run_dir
    if resume:
        unfinished = [run for run in list_runs(runs_folder()) if run["status"] != "finished"]
        newest = "there is no unfinished one"
        if unfinished:
            newest = f"the newest unfinished one is {unfinished[-1]['path']}"
        raise RefusedInputError(f"--resume needs --run-dir to say which run: {newest}")
    taken = [int(p.name) for p in runs_folder().glob("[0-9]*") if p.name.isdigit()]
    return runs_folder() / f"{max(taken, default=0) + 1:04d}"


class RunLock:
    """Holds a run directory for one process; makes the directory if there is none.

    The lock goes with the process, however it ends. Raises RefusedInputError where another
    process holds it.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def __enter__(self) -> "RunLock":
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._file = (self.run_dir / ".lock").open("a")
        except OSError as error:
            raise RefusedInputError(
                f"{self.run_dir} cannot be written to: {error.strerror}: name another --run-dir"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise RefusedInputError(
                f"{self.run_dir} is in use by another process: wait for it, or name another one"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def is_in_use(run_dir: Path) -> bool:
    """Whether a process holds the run directory now."""
    if not (run_dir / ".lock").exists():
        return False
    with (run_dir / ".lock").open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """Each run below `folder`, oldest first: its run.json with `path` and the true status.

    A run that was killed still says `running`; it is `interrupted` once nobody holds it. A
    folder whose run.json cannot be read has the status `unreadable`.
    """
    runs: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/run.json"), key=lambda p: p.parent.stat().st_ctime_ns):
        run_dir = path.parent
        try:
            data = dict(RunManifest.load(run_dir).data)
        except RefusedInputError as error:
            runs.append(
                {
                    "path": str(run_dir),
                    "name": run_dir.name,
                    "status": "unreadable",
                    "error": str(error),
                    "created_at": "",
                }
            )
            continue
        if data["status"] == "running" and not is_in_use(run_dir):
            data["status"] = "interrupted"
        runs.append({**data, "path": str(run_dir)})
    return sorted(runs, key=lambda run: (run["created_at"], run["name"]))


def find_run(name: str | Path) -> Path:
    """The run directory that `name` means: a path, or a name below `runs/`.

    Raises RefusedInputError where there is no such run, naming the nearest.
    """
    for candidate in (Path(name), runs_folder() / name):
        if (candidate / "run.json").is_file():
            return candidate
    known = [path.parent.name for path in runs_folder().glob("*/run.json")]
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "; `runs` lists those there are"
    raise RefusedInputError(f"there is no run {name}{hint}")
