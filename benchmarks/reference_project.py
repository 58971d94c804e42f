"""A rendered reference project at work, and what a piece of evidence is."""

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.environments import overlay
from tests.reference import answers, render_reference

from . import ROOT

PACKAGE = str(answers()["package_name"])


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    seconds: float
    out: str
    err: str
    code: int


class Reference:
    """A rendered reference project, and the commands that its user types.

    One that stands in `folder` already is used as it is, so that its runs can go on.
    """

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.python = self.project / ".venv" / "bin" / "python"
        if not self.python.exists():
            render_reference(ROOT, self.project, ref="HEAD")
            overlay(self.project)
            (folder / "commit").write_text(_commit() + "\n", encoding="utf-8")
        self.commit = (folder / "commit").read_text(encoding="utf-8").strip()
        """The repository's when the project was rendered."""

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> "Done":
        """Run a module of the project; its code must be one of `codes`."""
        began = time.perf_counter()
        done = subprocess.run(
            [str(self.python), "-m", *words],
            cwd=self.project,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - began
        if done.returncode not in codes:
            raise SystemExit(f"{' '.join(words)} left with {done.returncode}:\n{done.stderr}")
        return Done(seconds, done.stdout, done.stderr, done.returncode)

    def scores(self, run: str, split: str) -> dict[str, dict[str, float]]:
        """Scores of a run on a split, with intervals."""
        out = self.project / f"{run}-{split}.json"
        self.run(PACKAGE, "evaluate", run, "--split", split, "--json", str(out))
        return json.loads(out.read_text(encoding="utf-8"))["scores"]


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
