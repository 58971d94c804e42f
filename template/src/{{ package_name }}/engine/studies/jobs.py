"""Running the commands of a study: a process each, some runs at a time.

The commands are the project's own, `train --resume` first: a study that was killed goes on where
each run was, once no process that it left behind trains that run any more.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..tracking.run_directory import is_in_use
from ..training.guards import SignalGuard

POLL_S = 0.1
Say = Callable[[str], None]
Start = Callable[..., Sequence[str]]
"""The words of a command -> what starts it in a process of its own."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a study: commands about one run, one after another."""

    run_dir: Path
    commands: tuple[tuple[str, ...], ...]

    @property
    def log(self) -> Path:
        """The log of a job, where everything goes that its commands print."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")


@dataclass(kw_only=True)
class _Working:
    """A job at work: its log, and the process of its command number `current`."""

    job: Job
    start: Start
    log: IO[bytes]
    current: int = 0
    process: "subprocess.Popen[bytes]" = field(init=False)

    def begin(self) -> None:
        """Start the current command of a job in a process of its own."""
        words = self.start(*self.job.commands[self.current])
        # in a session of its own: an interrupt reaches the study, which passes it on
        self.process = subprocess.Popen(
            words, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def goes_on(self, failed: dict[Path, str]) -> bool:
        """Whether a job is at work still; starts its next command where one has ended."""
        code = self.process.poll()
        if code is None:
            return True
        self.current += 1
        if code == 0 and self.current < len(self.job.commands):
            self.begin()
            return True
        self.log.close()
        if code:
            lines = self.job.log.read_text(encoding="utf-8", errors="replace").splitlines()
            said = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            failed[self.job.run_dir] = f"exit code {code}: {said}"
        return False


def run_jobs(
    jobs: Sequence[Job], *, start: Start, processes: int, signals: SignalGuard, say: Say
) -> dict[Path, str]:
    """Run the jobs in `processes` at a time; {run directory: why} of those that failed.

    A job whose command leaves with another code than 0 has failed, and the others go on. Raises
    StopRequested once a signal has come and every process has saved and left.
    """
    waiting, working = list(jobs), list[_Working]()
    failed: dict[Path, str] = {}
    waited_for: set[Path] = set()
    try:
        while waiting or working:
            signals.poll()
            for job in list(waiting):
                if len(working) >= processes:
                    break
                if not is_in_use(job.run_dir):
                    waiting.remove(job)
                    each = _Working(job=job, start=start, log=job.log.open("ab"))
                    each.begin()
                    working.append(each)
                elif job.run_dir not in waited_for:
                    waited_for.add(job.run_dir)
                    say(f"{job.run_dir.name} is trained by another process: waiting for it")
            for each in [each for each in working if not each.goes_on(failed)]:
                working.remove(each)
                ended = len(jobs) - len(waiting) - len(working)
                name, why = each.job.run_dir.name, failed.get(each.job.run_dir, "done")
                say(f"{name}: {why} ({ended} of {len(jobs)})")
            time.sleep(POLL_S)
    finally:
        for each in working:
            each.process.terminate()  # train saves and leaves
        for each in working:
            each.process.wait()
            each.log.close()
    return failed
