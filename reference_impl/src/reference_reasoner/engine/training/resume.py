"""May this run go on, and from where? Everything is checked before anything is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.fields import flatten, overlay, read_toml
from ..config.run_config import RunConfig, differences
from ..errors import RefusedInputError, RunFailedError
from ..tracking.manifest import RunManifest
from . import checkpoint
from .checkpoint import Snapshot


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """Where a run begins or goes on."""

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
