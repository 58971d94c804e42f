"""Running the commands of a study: a process each, some runs at a time.

The commands are the project's own, `train --resume` first of all: a study that was killed goes
on where each of its runs was. A run that is still trained by a process which a killed study left
behind is waited for.
"""

import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """A job at work: the process of its command number `current`, and its log."""

    job: Job
    log: IO[bytes]
    process: subprocess.Popen[bytes]
    current: int = 0


def run_jobs(
    jobs: Sequence[Job], *, start: Start, processes: int, signals: SignalGuard, say: Say
) -> dict[Path, str]:
    """Run the jobs in `processes` at a time; {run directory: why} of those that failed.

    A job whose command leaves with another code than 0 has failed, and the others go on. Raises
    StopRequested once a signal has come and every process has saved and left.
    """
    waiting, working = deque(jobs), list[_Working]()
    failed: dict[Path, str] = {}
    ended = 0
    waited_for: set[Path] = set()
    try:
        while waiting or working:
            signals.poll()
            for _ in range(len(waiting) if len(working) < processes else 0):
                job = waiting.popleft()
                if len(working) < processes and not is_in_use(job.run_dir):
                    working.append(_begun(job, start))
                    continue
                if len(working) < processes and job.run_dir not in waited_for:
                    waited_for.add(job.run_dir)
                    say(f"{job.run_dir.name} is trained by another process: waiting for it")
                waiting.append(job)
            for each in [each for each in working if not _goes_on(each, failed, start)]:
                working.remove(each)
                ended += 1
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


def _begun(job: Job, start: Start) -> _Working:
    log = job.log.open("ab")
    return _Working(job=job, log=log, process=_process(start(*job.commands[0]), log))


def _process(words: Sequence[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    # in a session of its own: an interrupt at the terminal reaches the study, which passes it on
    return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def _goes_on(each: _Working, failed: dict[Path, str], start: Start) -> bool:
    """Whether a job is at work still; starts its next command where one has ended."""
    code = each.process.poll()
    if code is None:
        return True
    each.current += 1
    if code == 0 and each.current < len(each.job.commands):
        each.process = _process(start(*each.job.commands[each.current]), each.log)
        return True
    each.log.close()
    if code:
        failed[each.job.run_dir] = f"exit code {code}: {_last_line(each.job.log)}"
    return False


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
