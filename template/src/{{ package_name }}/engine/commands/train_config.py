"""Which task, preset and config a `train` command line means."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.fields import flatten
from ..config.run_config import RunConfig
from ..config.sources import Sourced
from ..project import Project
from ..tracking.manifest import RunManifest
from ..training.resume import saved_config
from ..training.task import Task


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What to train."""

    task_name: str
    task_type: type[Task[Any]]
    preset: str | None
    sourced: Sourced


def choose(
    project: Project,
    flags: argparse.Namespace,
    config_flags: Sequence[str],
    own_flags: Iterable[str],
) -> Chosen:
    """Merge the sources. A run that is resumed starts from its config.toml, not from a preset.

    The run's own preset, given again, is in that file already. Raises RefusedInputError where a
    name or a value cannot be used.
    """
    run = _run_to_resume(flags.run_dir) if flags.resume else None
    if flags.preset is not None:
        task_name = project.task_of_preset(flags.preset)
    else:
        task_name = run.data["task"] if run else project.default_task
    task_type = project.task_type(task_name)
    sourced = Sourced(config=task_type.config_type())
    if run is not None and run.data["task"] == task_name:
        sourced = _of_run(run, sourced.config)
    preset = flags.preset or (run.data["preset"] if run else "default")
    applied = run is None or (flags.preset is not None and flags.preset != run.data["preset"])
    if applied:
        sourced = sourced.with_preset(task_type.presets[preset](), preset)
    if flags.config is not None:
        sourced = sourced.with_file(flags.config)
    sourced = sourced.with_flags(config_flags, own_flags)
    return Chosen(task_name=task_name, task_type=task_type, preset=preset, sourced=sourced)


def _of_run(run: RunManifest, plain: RunConfig) -> Sourced:
    saved, defaults = saved_config(run, plain), flatten(plain)
    source = str(run.run_dir / "config.toml")
    changed = [name for name, value in flatten(saved).items() if value != defaults[name]]
    return Sourced(config=saved, sources=dict.fromkeys(changed, source))


def _run_to_resume(run_dir: Path) -> RunManifest | None:
    return RunManifest.load(run_dir) if (run_dir / "run.json").exists() else None
