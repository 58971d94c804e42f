"""The command line of a project whose only task is the toy; also `python -m` with this name."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from reference_reasoner import project
from reference_reasoner.cli import main
from reference_reasoner.command_line import PROG
from reference_reasoner.project import PRESETS, TASKS

from .toy_task import ToyTask


@contextmanager
def toy_project() -> Iterator[None]:
    """Only the toy is in project.py, with its presets; its default one is benched."""
    tasks = {"toy": f"{ToyTask.__module__}:{ToyTask.__qualname__}"}
    presets = dict.fromkeys(ToyTask.presets, "toy")
    with (
        patch.dict(TASKS, tasks, clear=True),
        patch.dict(PRESETS, presets, clear=True),
        patch.object(project, "BENCHED", "default"),
    ):
        yield


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below `folder`: when it was written, and what it holds."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def folders(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_dir()}


class CommandLine:
    """Calls commands in this process, and checks what every refusal has in common."""

    def __init__(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.project = project
        self.capsys = capsys

    def done(self, *words: Any) -> str:
        """What a command that succeeds prints."""
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        said = self.capsys.readouterr()
        assert code == 0, said.err
        return said.out

    def refused(self, *words: Any, code: int = 2) -> str:
        """The one sentence of a refusal, before which nothing was written."""
        self.capsys.readouterr()
        files, there = contents(self.project), folders(self.project)
        assert main([str(word) for word in words]) == code
        said = self.capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"{PROG}: ")
        assert said.err.count("\n") == 1
        assert said.err.endswith("\n")
        assert contents(self.project) == files
        assert folders(self.project) == there
        return said.err.removeprefix(f"{PROG}: ").strip()


if __name__ == "__main__":
    with toy_project():
        sys.exit(main())
