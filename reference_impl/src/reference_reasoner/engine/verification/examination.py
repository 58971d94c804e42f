"""What the doctor works with: short runs of the project's task in a folder of their own."""

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config.fields import overlay
from ..config.run_config import RunConfig
from ..data.dataset import Splits
from ..tracking.manifest import RunManifest
from ..tracking.sinks import Record, read_records
from ..training.request import TrainRequest
from ..training.resume import saved_config
from ..training.session import MakeEvaluator, train
from ..training.task import Task

STEPS = 12
"""Steps of a short run: three checkpoints, and more than one epoch of no data set."""
SHORT = {
    "training.steps": STEPS,
    "training.early_stopping_evaluations": 0,
    "evaluation.every_steps": 6,
    "checkpoint.every_steps": 4,
    "tracking.log_every_steps": 1,
    "tracking.tensorboard": False,
}
HASHES = ("weights_sha256", "state_sha256")

Launch = Callable[[RunConfig, Path, Mapping[str, str]], int]
"""(config, run directory, more environment variables) -> exit code of `train --resume` there."""


@dataclass(kw_only=True)
class Examination:
    """The task to examine, with its smoke preset; everything is written below `folder`."""

    task_name: str
    task_type: type[Task[Any]]
    folder: Path
    make_evaluator: MakeEvaluator
    launch: Launch
    run: RunManifest | None
    """The run whose files are looked at, if there is one."""
    budgets: Path
    """The task's budgets.toml, whether or not it exists."""

    @cached_property
    def config(self) -> RunConfig:
        """The smoke preset, shortened."""
        return overlay(self.task_type.presets["smoke"](), SHORT, "doctor")

    @cached_property
    def task(self) -> Task[Any]:
        """The task with that config."""
        return self.task_type(self.config)

    @cached_property
    def splits(self) -> Splits:
        """Its data."""
        return self.task.datasets()

    def task_of_run(self) -> Task[Any] | None:
        """The task with the config of the run; None without a run of this task."""
        if self.run is None or self.run.data["task"] != self.task_name:
            return None
        return self.task_type(saved_config(self.run, self.task_type.config_type()))

    def train(self, name: str, overrides: Mapping[str, Any] | None = None, **more: Any) -> Path:
        """Train a short run `name` in this process, silently; its directory."""
        request = TrainRequest(
            task_name=self.task_name,
            task_type=self.task_type,
            preset="smoke",
            config=overlay(self.config, overrides or {}, "doctor"),
            run_dir=self.folder / name,
            argv=("doctor",),
        )
        with contextlib.redirect_stderr(io.StringIO()):
            train(dataclasses.replace(request, **more), self.make_evaluator)
        return request.run_dir

    @cached_property
    def reference(self) -> Path:
        """A short run that nothing disturbed."""
        return self.train("reference")


def hashes(run_dir: Path) -> dict[str, Any]:
    """Both hashes of a run."""
    facts = RunManifest.load(run_dir).data
    return {name: facts[name] for name in HASHES}


def records(run_dir: Path) -> list[Record]:
    """A run's records."""
    return read_records(run_dir / "metrics.jsonl")
