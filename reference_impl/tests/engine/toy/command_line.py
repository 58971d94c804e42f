"""The command line of a project whose only task is the toy; also `python -m` with this name."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.command_line import run_command
from reference_reasoner.engine.commands.parser import PROG
from reference_reasoner.engine.project import Project

from .task import ToyTask

TOY = Project(
    package="tests.engine",
    program="tests.engine.toy.command_line",
    tasks={"toy": ".toy.task:ToyTask"},
    presets=dict.fromkeys(ToyTask.presets, "toy"),
    commands={},
    benched="default",
)
"""What a project.py with nothing but the toy says."""


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(argv, TOY)


def toy_budgets() -> Path:
    """Where the toy's budgets.toml stands below the working directory; its folder is made."""
    path = TOY.budgets_path("toy")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below `folder`: when it was written, and what it holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def folders(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_dir()}


class CommandLine:
    """Calls commands in this process, and checks what every refusal has in common."""

    def __init__(
        self, project: Path, capsys: pytest.CaptureFixture[str], of: Project = TOY
    ) -> None:
        self.project = project
        self.of = of
        self.capsys = capsys

    def done(self, *words: Any) -> str:
        """What a command that succeeds prints."""
        self.capsys.readouterr()
        code = run_command([str(word) for word in words], self.of)
        said = self.capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def refused(self, *words: Any, code: int = 2) -> str:
        """The one sentence of a refusal, before which nothing was written."""
        self.capsys.readouterr()
        files, there = contents(self.project), folders(self.project)
        assert run_command([str(word) for word in words], self.of) == code
        said = self.capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"{PROG}: ")
        assert said.err.count("\n") == 1
        assert said.err.endswith("\n")
        assert contents(self.project) == files
        assert folders(self.project) == there
        return said.err.removeprefix(f"{PROG}: ").strip()


if __name__ == "__main__":
    sys.exit(main())
