"""What a person asked `train` to do, and whether the run directory allows it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config.run_config import RunConfig
from ..errors import RefusedInputError
from ..tracking.manifest import RunManifest
from . import resume
from .task import Task


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """What a person asked `train` to do; `config` is merged and checked."""

    task_name: str
    task_type: type[Task[Any]]
    preset: str | None
    config: RunConfig
    run_dir: Path
    resume: bool = False
    extend_to: int | None = None
    init_from: Path | None = None
    stop_at: int | None = None
    """Save and stop after this step, as on a signal; the schedule stays that of the whole run."""
    argv: tuple[str, ...] = ()


def holds_run(request: TrainRequest) -> bool:
    """Whether the run directory holds a run that `--resume` goes on with.

    Raises RefusedInputError for a directory that must not be written to.
    """
    run_dir = request.run_dir
    if run_dir.exists() and not run_dir.is_dir():
        raise RefusedInputError(f"--run-dir {run_dir} is a file: name a folder")
    there = {path.name for path in run_dir.iterdir()} if run_dir.exists() else set()
    # a kill before run.json was written leaves these, and no run
    begun = {name for name in there if not name.startswith(".")} - {"config.toml"}
    if request.resume and "run.json" in there:
        return True
    if begun or ("config.toml" in there and not request.resume):
        hint = "holds other files" if request.resume else "is not empty: go on with --resume"
        raise RefusedInputError(f"--run-dir {run_dir} {hint}, or name another folder")
    if request.extend_to is not None:
        raise RefusedInputError(f"--extend-to needs a run to extend, and {run_dir} holds none")
    return False


def config_to_go_on_with(request: TrainRequest, manifest: RunManifest) -> RunConfig:
    """The config asked for, checked against the run's. Raises RefusedInputError."""
    if manifest.data["task"] != request.task_name:
        raise RefusedInputError(
            f"{request.run_dir} is a run of the task {manifest.data['task']!r}, not of "
            f"{request.task_name!r}: name another run or preset"
        )
    asked = request.config
    old = resume.saved_config(manifest, asked)
    begun_from = manifest.data["initialised_from"]
    if request.init_from is not None and str(request.init_from) != begun_from:
        raise RefusedInputError(
            f"--init-from {request.init_from}: {request.run_dir} began from "
            f"{begun_from or 'fresh weights'}: leave it out, or start a new run"
        )
    if request.extend_to is not None:
        asked = replace(asked, training=replace(asked.training, steps=request.extend_to))
    resume.check_config(old, asked, request.extend_to)
    return asked
