"""From a name to a task, and from a run to its task and its trained model."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from .config import RunConfig
from .config_fields import suggestion
from .errors import RefusedInputError
from .project import PRESETS, TASKS
from .tracking.manifest import RunManifest
from .tracking.run_directory import find_run
from .training.checkpoint import load_weights
from .training.device import choose_device
from .training.resume import saved_config
from .training.task import Task


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run on the disk, and the task that it trained."""

    run_dir: Path
    manifest: RunManifest
    task: Task[Any]
    """Made with the run's own config."""


def load_task_type(name: str) -> type[Task[Any]]:
    """The class of the task `name` in project.py. Raises RefusedInputError for another name."""
    if name not in TASKS:
        raise RefusedInputError(f"there is no task {name!r}{suggestion(name, TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    task_type: type[Task[Any]] = getattr(importlib.import_module(module, __package__), attribute)
    return task_type


def task_of_preset(preset: str) -> str:
    """The task that `preset` belongs to. Raises RefusedInputError for an unknown preset."""
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise RefusedInputError(
            f"--preset: there is no preset {preset!r}{suggestion(preset, PRESETS)} (known: {known})"
        )
    return PRESETS[preset]


def open_run(run: str | Path) -> OpenRun:
    """The run at a path or below `runs/`. Raises RefusedInputError where it cannot be read."""
    run_dir = find_run(run)
    manifest = RunManifest.load(run_dir)
    task_type = load_task_type(manifest.data["task"])
    config = saved_config(manifest, task_type.config_type())
    return OpenRun(run_dir=run_dir, manifest=manifest, task=task_type(config))


def load_model(run: str | Path, checkpoint: str = "best") -> tuple[nn.Module, RunConfig]:
    """The trained model of a run in eval mode, on the run's device, and the run's config.

    `run` is a path or a name below `runs/`; `checkpoint` is `best` or `last`. Raises
    RefusedInputError for a run that is not there, and RunFailedError for damaged weights.
    """
    opened = open_run(run)
    config: RunConfig = opened.task.config
    tensors, _ = load_weights(opened.run_dir, checkpoint)
    model = opened.task.build_model()
    model.load_state_dict(tensors)
    return model.to(choose_device(config.runtime)).eval(), config
