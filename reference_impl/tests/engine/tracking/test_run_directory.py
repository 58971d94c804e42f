"""Run directories: one process each, found by path or name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.tracking import run_directory
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.tracking.run_directory import (
    RunLock,
    find_run,
    is_in_use,
    list_runs,
    resolve,
)

HOLD = """
import importlib, pathlib, sys, time
module = importlib.import_module(sys.argv[1])
with module.RunLock(pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(600)
"""


def _run(project: Path, name: str, **facts: object) -> Path:
    run_dir = project / "runs" / name
    run_dir.mkdir(parents=True)
    RunManifest.create(run_dir, **facts)
    return run_dir


def test_a_new_run_gets_the_next_free_number(project: Path) -> None:
    assert resolve(None, False) == project / "runs" / "0001"
    for name in ("0002", "0007", "12ab", "mine"):
        (project / "runs" / name).mkdir(parents=True)
    assert resolve(None, False) == project / "runs" / "0008"
    assert not (project / "runs" / "0008").exists()


def test_a_named_directory_is_taken_as_it_is(project: Path) -> None:
    for resume in (False, True):
        assert resolve(Path("here"), resume) == Path("here")


def test_a_resume_names_the_newest_unfinished_run(project: Path) -> None:
    with pytest.raises(RefusedInputError, match="there is no unfinished one"):
        resolve(None, True)
    _run(project, "0001", created_at="2026-01-01T00:00:00+00:00", status="stopped")
    newest = _run(project, "0002", created_at="2026-01-02T00:00:00+00:00")
    _run(project, "0003", created_at="2026-01-03T00:00:00+00:00", status="finished")
    with pytest.raises(RefusedInputError, match="--resume needs --run-dir") as caught:
        resolve(None, True)
    assert str(newest) in str(caught.value)


def test_a_lock_holds_for_one(tmp_path: Path) -> None:
    run_dir = tmp_path / "deep" / "run"
    assert not is_in_use(run_dir)
    with RunLock(run_dir):
        assert is_in_use(run_dir)
        with pytest.raises(RefusedInputError, match="in use by another process"), RunLock(run_dir):
            pass
        assert is_in_use(run_dir)
    assert not is_in_use(run_dir)
    with RunLock(run_dir):
        assert is_in_use(run_dir)


def test_a_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, run_directory.__name__, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_in_use(tmp_path)
        with pytest.raises(RefusedInputError), RunLock(tmp_path):
            pass
        holder.kill()
    assert not is_in_use(tmp_path)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RefusedInputError, match="cannot be written to"), RunLock(tmp_path / "file"):
        pass
    inside = RunLock(tmp_path / "file" / "run")
    with pytest.raises(RefusedInputError, match="name another --run-dir"), inside:
        pass


def test_runs_are_listed_oldest_first_with_their_true_status(project: Path) -> None:
    assert list_runs(project / "runs") == []
    young = _run(project, "a", created_at="2026-01-02T00:00:00+00:00", status="finished")
    old = _run(project, "b", created_at="2026-01-01T00:00:00+00:00")
    broken = _run(project, "c")
    (broken / "run.json").write_text("{", encoding="utf-8")
    (project / "runs" / "no run").mkdir()
    runs = list_runs(project / "runs")
    assert [(run["name"], run["status"]) for run in runs] == [
        ("c", "unreadable"),
        ("b", "interrupted"),
        ("a", "finished"),
    ]
    assert [run["path"] for run in runs] == [str(broken), str(old), str(young)]
    assert "run.json" in runs[0]["error"]
    with RunLock(old), RunLock(young):
        assert [run["status"] for run in list_runs(project / "runs")][1:] == ["running", "finished"]
    # listing changes nothing
    assert json.loads((old / "run.json").read_text())["status"] == "running"


def test_a_run_is_found_by_path_and_by_name(project: Path) -> None:
    run_dir = _run(project, "0001")
    assert find_run("0001") == run_dir
    assert find_run(str(run_dir)) == run_dir
    assert find_run(Path("runs/0001")) == Path("runs/0001")


def test_a_run_that_is_not_there_is_refused_with_the_nearest(project: Path) -> None:
    with pytest.raises(RefusedInputError, match="there is no run 0002; `runs` lists"):
        find_run("0002")
    _run(project, "0001")
    with pytest.raises(RefusedInputError, match=r"there is no run 0002; did you mean 0001\?"):
        find_run("0002")
    (project / "empty").mkdir()
    with pytest.raises(RefusedInputError, match="there is no run empty"):
        find_run("empty")
