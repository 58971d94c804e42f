"""From a run on the disk to its task and its trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..config.run_config import RunConfig
from ..project import Project
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import find_run
from .checkpoint import load_weights
from .device import choose_device
from .resume import saved_config
from .task import Task


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A trained run that was opened: its folder, its run.json and its task."""

    run_dir: Path
    manifest: RunManifest
    task: Task[Any]
    """Made with the run's own config."""


def open_run(project: Project, run: str | Path) -> OpenRun:
    """The run at a path or below `runs/`. Raises RefusedInputError where it cannot be read."""
    run_dir = find_run(run)
    manifest = RunManifest.load(run_dir)
    task_type = project.task_type(manifest.data["task"])
    config = saved_config(manifest, task_type.config_type())
    return OpenRun(run_dir=run_dir, manifest=manifest, task=task_type(config))


def load_model(
    project: Project, run: str | Path, checkpoint: str = "best"
) -> tuple[nn.Module, RunConfig]:
    """The trained model of a run in eval mode, on the run's device, and the run's config.

    `run` is a path or a name below `runs/`; `checkpoint` is `best` or `last`. Raises
    RefusedInputError for a run that is not there, and RunFailedError for damaged weights.
    """
    opened = open_run(project, run)
    config: RunConfig = opened.task.config
    tensors, _ = load_weights(opened.run_dir, checkpoint)
    model = opened.task.build_model()
    model.load_state_dict(tensors)
    return model.to(choose_device(config.runtime)).eval(), config
