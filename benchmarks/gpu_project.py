"""A copy of `reference_impl/` at work, without installing it: its commands and their output.

A copy, so that runs and the ledger of the test split are not left in the repository.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import ROOT

PACKAGE = "reference_reasoner"
SAVING_S = 60.0
"""Seconds that a training may take from SIGTERM to its end; the project promises 30."""


class PieceError(Exception):
    """A step of a piece failed; what is written so far stays."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """The copy, in `folder`."""

    folder: Path

    @classmethod
    def in_folder(cls, work: Path, origin: Path) -> "Project":
        """The copy below `work`; the one that an earlier piece left there, if it did."""
        folder = work / "project"
        if not (folder / "pyproject.toml").is_file():
            ignored = shutil.ignore_patterns("runs", ".venv", "__pycache__", ".git", ".*cache")
            shutil.copytree(origin, folder, ignore=ignored)
        return cls(folder=folder)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its processes: one thread, the copy's package, our modules."""
        paths = os.pathsep.join(
            [str(self.folder / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        )
        return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths.rstrip(os.pathsep)}

    def start(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a module; what it says goes to the end of `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def run(self, *words: str, given: str | None = None, limit_s: float | None = None) -> str:
        """Run a module on `given` and return its standard output.

        Raises PieceError where it fails or takes longer than `limit_s`.
        """
        try:
            done = subprocess.run(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=self.environment,
                input=given,
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise PieceError(f"{shown(words)} took longer than {limit_s:.0f} s") from error
        if done.returncode:
            raise PieceError(f"{shown(words)} left with {done.returncode}: {ending(done.stderr)}")
        return done.stdout

    def answer(self, *words: str, asked: Any = None, limit_s: float | None = None) -> Any:
        """The JSON that a module of ours prints in its last line, asked as JSON."""
        said = self.run(*words, given=json.dumps(asked), limit_s=limit_s)
        return json.loads(said.strip().splitlines()[-1])

    def run_dir(self, model: str) -> Path:
        """Where the run of a model is, whether or not it exists."""
        return self.folder / "runs" / model

    def records(self, model: str) -> list[dict[str, Any]]:
        """The records of a run so far; a line that is being written is left out."""
        path = self.run_dir(model) / "metrics.jsonl"
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


def shown(words: Sequence[str]) -> str:
    """A module's command for people."""
    return " ".join(["python", "-m", *words])


def ending(text: str) -> str:
    """The last line of what a process said."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def machine() -> dict[str, Any]:
    """What the figures are true of, as far as it is known without torch."""
    return {"python": ".".join(map(str, sys.version_info[:3])), "cores": os.cpu_count()}


def commit() -> str | None:
    """The commit of this repository and whether it was changed; None outside of git."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@dataclass
class Budget:
    """The seconds of a piece."""

    seconds: float
    began: float

    @classmethod
    def of_minutes(cls, minutes: float) -> "Budget":
        """From now on."""
        return cls(seconds=60 * minutes, began=time.monotonic())

    @property
    def used(self) -> float:
        """Seconds since the piece began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float:
        """Seconds until it must be over."""
        return self.seconds - self.used
