"""Processes side by side: each job's commands in turn, failures, waiting, leaving."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from reference_reasoner.engine.studies import jobs as jobs_module
from reference_reasoner.engine.studies.jobs import Job, run_jobs
from reference_reasoner.engine.tracking.run_directory import RunLock
from reference_reasoner.engine.training.guards import SignalGuard, StopRequested


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between two looks."""
    monkeypatch.setattr(jobs_module, "POLL_S", 0.01)


def python(*words: str) -> list[str]:
    """A command's first word is Python code."""
    return [sys.executable, "-c", *words]


def run(jobs: list[Job], processes: int = 2) -> tuple[dict[Path, str], list[str]]:
    said: list[str] = []
    with SignalGuard() as signals:
        failed = run_jobs(jobs, start=python, processes=processes, signals=signals, say=said.append)
    return failed, said


def test_the_commands_of_a_job_run_in_turn(tmp_path: Path) -> None:
    run_dir = tmp_path / "a"
    job = Job(run_dir=run_dir, commands=(("print('one')",), ("print('two')",)))
    failed, said = run([job])
    assert failed == {}
    assert said == ["a: done (1 of 1)"]
    assert job.log.read_text().splitlines() == ["one", "two"]


def test_a_failure_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    bad = Job(
        run_dir=tmp_path / "bad",
        commands=(("import sys; sys.exit('no good\\n\\n')",), ("print('never')",)),
    )
    silent = Job(run_dir=tmp_path / "silent", commands=(("import os; os._exit(3)",),))
    good = Job(run_dir=tmp_path / "good", commands=(("print('fine')",),))
    failed, said = run([bad, silent, good], processes=1)
    assert failed == {
        bad.run_dir: "exit code 1: no good",
        silent.run_dir: "exit code 3: it said nothing",
    }
    assert said == [
        "bad: exit code 1: no good (1 of 3)",
        "silent: exit code 3: it said nothing (2 of 3)",
        "good: done (3 of 3)",
    ]
    assert "never" not in bad.log.read_text()


@pytest.mark.parametrize("processes", [1, 2])
def test_so_many_at_a_time_and_no_more(tmp_path: Path, processes: int) -> None:
    # each notes how many there are beside it
    code = (
        "import pathlib, sys, time\n"
        "mine = pathlib.Path(sys.argv[1]); mine.touch(); time.sleep(.3)\n"
        "print(len(list(mine.parent.glob('at-work-*')))); mine.unlink()"
    )
    jobs = [
        Job(run_dir=tmp_path / str(i), commands=((code, str(tmp_path / f"at-work-{i}")),))
        for i in range(3)
    ]
    failed, _ = run(jobs, processes)
    assert failed == {}
    counts = [int(job.log.read_text()) for job in jobs]
    assert max(counts) <= processes


def test_a_run_in_use_is_waited_for(tmp_path: Path) -> None:
    run_dir = tmp_path / "busy"
    lock = RunLock(run_dir)
    lock.__enter__()
    threading.Timer(0.3, lambda: lock.__exit__(None, None, None)).start()
    busy = Job(run_dir=run_dir, commands=(("print('at last')",),))
    free = Job(run_dir=tmp_path / "free", commands=(("print('now')",),))
    failed, said = run([busy, free])
    assert failed == {}
    assert said[0] == "busy is trained by another process: waiting for it"
    assert said[-2:] == ["free: done (1 of 2)", "busy: done (2 of 2)"]
    assert said.count(said[0]) == 1


def test_a_signal_is_passed_on_and_waited_for(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(143)))\n"
        "print('at work', flush=True); time.sleep(60)"
    )
    job = Job(run_dir=tmp_path / "long", commands=((code,), ("print('never')",)))
    later = Job(run_dir=tmp_path / "later", commands=(("print('never')",),))

    def interrupt() -> None:
        while not (job.log.exists() and job.log.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with SignalGuard() as signals:
        with pytest.raises(StopRequested, match="SIGINT"):
            run_jobs([job, later], start=python, processes=1, signals=signals, say=print)
        assert signals.exit_code == 130
    assert job.log.read_text().splitlines() == ["at work", "saved"]
    assert not later.log.exists()
