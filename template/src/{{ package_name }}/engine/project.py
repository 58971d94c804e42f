"""The project that the engine works for: what its project.py says, and where its folder is."""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .config.fields import suggestion
from .errors import RefusedInputError


@dataclass(frozen=True, kw_only=True)
class Project:
    """What a project.py says: names of tasks, presets and commands, and where each is found.

    The engine never imports it: whoever starts the engine hands it over, in every process.
    """

    package: str
    """What names such as `.digits.task` are relative to."""
    program: str
    """The module that `python -m` runs for this project's command line."""
    tasks: Mapping[str, str]
    """{task name: "<module>:<class>"}; the first is the default."""
    presets: Mapping[str, str]
    """{preset name: the task that it belongs to}"""
    commands: Mapping[str, tuple[str, str]]
    """{command: ("<module>:<function>", help)}"""
    benched: str | None
    """The preset that `gpu_bench` takes; None: the first."""

    @classmethod
    def of(cls, module: ModuleType, program: str | None = None) -> "Project":
        """The project that `module`, a project.py, describes."""
        package = module.__name__.rpartition(".")[0]
        return cls(
            package=package,
            program=program or package,
            tasks=module.TASKS,
            presets=module.PRESETS,
            commands=module.COMMANDS,
            benched=module.BENCHED,
        )

    @property
    def default_task(self) -> str:
        """The name of the first task. Raises RefusedInputError where there is none."""
        if not self.tasks:
            raise RefusedInputError(
                "this project has no task yet: `new task NAME` writes one to start from"
            )
        return next(iter(self.tasks))

    def task_type(self, name: str) -> Any:
        """The class of the task `name`. Raises RefusedInputError for another name."""
        module, attribute = self._place(name)
        return getattr(importlib.import_module(module, self.package), attribute)

    def _place(self, task: str) -> tuple[str, str]:
        """Module and class of a task."""
        if task not in self.tasks:
            raise RefusedInputError(f"there is no task {task!r}{suggestion(task, self.tasks)}")
        module, _, attribute = self.tasks[task].partition(":")
        return module, attribute

    def task_of_preset(self, preset: str) -> str:
        """The task that `preset` belongs to. Raises RefusedInputError for an unknown preset."""
        if preset not in self.presets:
            if not self.tasks:
                return self.default_task
            known = ", ".join(self.presets)
            near = suggestion(preset, self.presets)
            raise RefusedInputError(
                f"--preset: there is no preset {preset!r}{near} (known: {known})"
            )
        return self.presets[preset]

    def presets_of(self, task: str) -> list[str]:
        """The names of the task's presets."""
        return [preset for preset, owner in self.presets.items() if owner == task]

    def budgets_path(self, task: str) -> Path:
        """Where budgets.toml of the task's folder stands, whether or not it exists."""
        folder = self._place(task)[0].lstrip(".").partition(".")[0]
        return project_root().joinpath("src", *self.package.split("."), folder, "budgets.toml")

    def command(self, *words: str) -> list[str]:
        """What starts a command of this project in a process of its own."""
        return [sys.executable, "-m", self.program, *words]


def project_root() -> Path:
    """The nearest folder at or above the working directory that holds a pyproject.toml.

    Without one, the working directory itself.
    """
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "pyproject.toml").is_file()), here)


def runs_folder() -> Path:
    """`runs/` at the project's root, whether or not it exists."""
    return project_root() / "runs"
