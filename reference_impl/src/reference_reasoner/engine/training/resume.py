"""What train is asked to do, whether a run may go on, and where it begins or goes on from.

Everything is checked before anything is written.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from ..config.fields import flatten, overlay, read_toml
from ..config.run_config import RunConfig, differences
from ..errors import RefusedInputError, RunFailedError
from ..tracking.manifest import RunManifest
from . import checkpoint
from .checkpoint import Snapshot, load_weights
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
    old = saved_config(manifest, asked)
    begun_from = manifest.data["initialised_from"]
    if request.init_from is not None and str(request.init_from) != begun_from:
        raise RefusedInputError(
            f"--init-from {request.init_from}: {request.run_dir} began from "
            f"{begun_from or 'fresh weights'}: leave it out, or start a new run"
        )
    if request.extend_to is not None:
        asked = replace(asked, training=replace(asked.training, steps=request.extend_to))
    check_config(old, asked, request.extend_to)
    return asked


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Where a run begins, or goes on when it resumes."""

    snapshot: Snapshot | None = None
    """None at the very start."""
    refused: Mapping[Path, str] = field(default_factory=dict)
    """Newer checkpoints that are not whole, and why."""
    warnings: tuple[str, ...] = ()


def saved_config(run: RunManifest, default: RunConfig) -> RunConfig:
    """The config in the run's config.toml. Raises RefusedInputError where it cannot be read.

    The steps are those of run.json, which an extension writes first.
    """
    path = run.run_dir / "config.toml"
    return overlay(default, {**read_toml(path), "training.steps": run.data["steps"]}, str(path))


def check_config(old: RunConfig, new: RunConfig, extend_to: int | None) -> tuple[str, ...]:
    """Warnings for changed conditions. Raises RefusedInputError for another trajectory."""
    changed = differences(old, new, "trajectory")
    if extend_to is not None:
        changed.pop("training.steps", None)
        if extend_to < old.training.steps:
            raise RefusedInputError(
                f"--extend-to {extend_to} is below the run's {old.training.steps} steps: "
                "give a larger number"
            )
    if changed:
        listed = "; ".join(f"{k} was {a!r}, now {b!r}" for k, (a, b) in changed.items())
        more = " (for more steps give --extend-to)" if "training.steps" in changed else ""
        raise RefusedInputError(
            f"the run is of another trajectory: {listed}: give the old values, or start a new "
            f"run{more}"
        )
    conditions = differences(old, new, "condition")
    return tuple(
        f"{k} was {a!r}, now {b!r}: the last bits of results may differ"
        for k, (a, b) in conditions.items()
    )


def check_environment(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{what: [before, now]} for the libraries and hardware that decide the last bits."""
    names = ("python", "torch", "cuda", "driver", "gpu", "cpu_capability")
    return {k: [old.get(k), new.get(k)] for k in names if old.get(k) != new.get(k)}


def identity(config: RunConfig, fingerprint: str, world_size: int) -> dict[str, Any]:
    """What a checkpoint says of the run that it belongs to; plain JSON values."""
    values = {
        "config": flatten(config),
        "data_fingerprint": fingerprint,
        "world_size": world_size,
        "select_on": config.training.select_on,
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def starting_point(
    run_dir: Path, config: RunConfig, now: Mapping[str, Any], extend_to: int | None
) -> StartingPoint:
    """The newest whole checkpoint of `run_dir` that belongs to `config` and the `now` identity.

    Raises RefusedInputError where config, data or world size are not those of the checkpoint,
    and RunFailedError where there are checkpoints but none is whole.
    """
    found = checkpoint.newest(run_dir / "checkpoints")
    if found.snapshot is None:
        if found.refused:
            raise RunFailedError(
                f"{run_dir} has no good checkpoint: {'; '.join(found.refused.values())}; "
                "start a new run"
            )
        return StartingPoint()
    values = found.snapshot.values
    old = overlay(config, _known(values["config"], config), f"{run_dir}'s checkpoint")
    warnings = check_config(old, config, extend_to)
    for name, hint in (("data_fingerprint", "data"), ("world_size", "number of processes")):
        if values[name] != now[name]:
            raise RefusedInputError(
                f"{run_dir} was trained with another {hint}: {name} was {values[name]!r}, now "
                f"{now[name]!r}: restore it, or start a new run"
            )
    return StartingPoint(snapshot=found.snapshot, refused=found.refused, warnings=warnings)


def _known(values: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """Without None where the field may not be None, and without fields of an older version."""
    return {name: value for name, value in values.items() if name in flatten(config)}


def take_weights(run_dir: Path, model: nn.Module) -> list[str]:
    """Copy the best weights of the run at `run_dir` into `model` where name and shape fit.

    Returns a line for each tensor that did not fit. Raises RefusedInputError where the run
    has no good weights, or not one of its tensors fits.
    """
    try:
        tensors, step = load_weights(run_dir, "best")
    except RunFailedError as error:
        raise RefusedInputError(f"--init-from {run_dir}: {error}") from error
    own = model.state_dict()
    fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise RefusedInputError(
            f"--init-from {run_dir}: not one of its {len(tensors)} tensors fits this model by "
            "name and shape: choose a run of the same model"
        )
    model.load_state_dict(fitting, strict=False)
    lines = [f"init-from: took {len(fitting)} of {len(own)} tensors from step {step} of {run_dir}"]
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            lines.append(f"init-from: {name} is not in that run and keeps its fresh values")
        elif name not in own:
            lines.append(f"init-from: {name} is not in this model and was left out")
        elif name not in fitting:
            there, here = tuple(tensors[name].shape), tuple(own[name].shape)
            lines.append(f"init-from: {name} is {there} there and {here} here: kept fresh")
    return lines
