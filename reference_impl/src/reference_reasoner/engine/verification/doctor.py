"""The doctor: a check and what it found, and the short runs that checks are made on."""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..config.fields import overlay
from ..config.run_config import RunConfig
from ..data.dataset import Splits
from ..seeding import set_determinism, set_threads
from ..tracking.manifest import RunManifest
from ..training.resume import TrainRequest, saved_config
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
Launch = Callable[[RunConfig, Path, Mapping[str, str]], int]
"""(config, run directory, more environment variables) -> exit code of `train --resume` there."""
State = Literal["passed", "failed", "skipped"]
SubjectT = TypeVar("SubjectT")


class FailedError(Exception):
    """A check of the doctor does not hold; the message says what was seen."""


class SkippedError(Exception):
    """A check of the doctor cannot be made on this machine or project; the message says why."""


def require(holds: bool, seen: str) -> None:
    """Raise FailedError(seen) unless a check of the doctor holds."""
    if not holds:
        raise FailedError(seen)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one check of the doctor: passed, failed or skipped, and what was seen."""

    name: str
    proof: str
    state: State
    text: str

    def line(self) -> str:
        """The line of the doctor's table that shows the outcome of a check."""
        return f"{self.name:<16} {self.state + ':':<9} {self.text}  ({self.proof})"


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of the doctor: its name, the proof that it repeats, and the function that looks."""

    name: str
    proof: str
    """Where the same is proved, as REPRODUCIBILITY.md names it."""
    look: Callable[[], str]
    """Says what it saw; raises FailedError or SkippedError."""

    def outcome(self) -> Outcome:
        """Make this check of the doctor; an error of any kind is a failure of it alone."""
        state: State = "failed"
        try:
            text = self.look()
            state = "passed"
        except SkippedError as error:
            state, text = "skipped", str(error)
        except Exception as error:
            told = isinstance(error, FailedError)
            text = str(error) if told else f"{type(error).__name__}: {error}"
        return Outcome(name=self.name, proof=self.proof, state=state, text=" ".join(text.split()))


def make_checks(
    subject: SubjectT, table: Mapping[str, tuple[Callable[[SubjectT], str], str]]
) -> list[Check]:
    """The doctor's checks of a subject, from a table {name: (function that looks, proof)}."""
    return [
        Check(name=name, proof=proof, look=partial(look, subject))
        for name, (look, proof) in table.items()
    ]


def say_outcomes(checks: Sequence[Check], say: Callable[[str], None]) -> list[Outcome]:
    """Make the doctor's checks one by one, and say each outcome as soon as it is known."""
    outcomes = []
    for check in checks:
        outcomes.append(check.outcome())
        say(outcomes[-1].line())
    return outcomes


def failures(outcomes: Sequence[Outcome]) -> str:
    """The names of the doctor's checks that failed, or nothing."""
    return ", ".join(outcome.name for outcome in outcomes if outcome.state == "failed")


@dataclass(kw_only=True)
class Examination:
    """The task that the doctor examines: its smoke preset, short runs, and a run on the disk."""

    task_name: str
    task_type: type[Task[Any]]
    folder: Path
    """Where the short runs are written."""
    make_evaluator: MakeEvaluator
    launch: Launch
    run: RunManifest | None
    """The run whose files are looked at, if there is one."""
    budgets: Path
    """The task's budgets.toml, whether or not it exists."""

    @cached_property
    def config(self) -> RunConfig:
        """The smoke preset, shortened to the few steps that the doctor trains."""
        return overlay(self.task_type.presets["smoke"](), SHORT, "doctor")

    @cached_property
    def task(self) -> Task[Any]:
        """The task with that config."""
        return self.task_type(self.config)

    @cached_property
    def splits(self) -> Splits:
        """The task's data."""
        return self.task.datasets()

    @cached_property
    def reference(self) -> Path:
        """The directory of a short run that the doctor did not disturb."""
        return self.train("reference")

    def task_of_run(self) -> Task[Any] | None:
        """The examined task with the config of the doctor's run; None without a run of it."""
        if self.run is None or self.run.data["task"] != self.task_name:
            return None
        return self.task_type(saved_config(self.run, self.task_type.config_type()))

    def train(self, name: str, overrides: Mapping[str, Any] | None = None, **more: Any) -> Path:
        """Train one of the doctor's short runs in this process, silently; its directory."""
        request = TrainRequest(
            task_name=self.task_name,
            task_type=self.task_type,
            preset="smoke",
            config=overlay(self.config, overrides or {}, "doctor"),
            run_dir=self.folder / name,
            argv=("doctor",),
            **more,
        )
        with contextlib.redirect_stderr(io.StringIO()):
            train(request, self.make_evaluator)
        return request.run_dir


def examine(
    exam: Examination, checks: Sequence[Check], say: Callable[[str], None]
) -> list[Outcome]:
    """Make the doctor's checks with the threads and the determinism of the examined config."""
    set_threads(exam.config.runtime.threads)
    set_determinism(exam.config.runtime.determinism)
    return say_outcomes(checks, say)
