"""A file of puzzles is the same for any processes, and after any kill."""

import fcntl
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.reasoner.data import sudoku_production
from reference_reasoner.reasoner.data.sudoku_production import (
    BLOCK,
    Request,
    keys_of,
    keys_of_files,
    produce,
)
from reference_reasoner.reasoner.data.sudoku_sets import read_puzzles

SMALL = Request(side=4, stratum="mixed", count=100)
NAME = sudoku_production.__name__


class KilledError(Exception):
    """Stands for a kill between two writes."""


def kill_after(blocks: int) -> sudoku_production.Progress:
    left = [blocks]

    def progress(done: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise KilledError

    return progress


def made(path: Path, request: Request = SMALL, processes: int = 1) -> bytes:
    produce(request, path, processes)
    return path.read_bytes()


def test_any_number_of_processes_makes_the_same(tmp_path: Path) -> None:
    assert made(tmp_path / "a.txt", processes=1) == made(tmp_path / "b.txt", processes=2)
    puzzles = read_puzzles(tmp_path / "a.txt")
    assert len(set(keys_of(puzzles, 4))) == len(puzzles) == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt", "manifest.json"]


def test_a_killed_one_goes_on(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.txt")
    path, part = tmp_path / "one.txt", tmp_path / "one.txt.part"
    for _ in range(2):
        with pytest.raises(KilledError):
            produce(SMALL, path, 1, kill_after(1))
    lines = part.read_bytes().splitlines(keepends=True)
    assert BLOCK < len(lines) - 1 < 100
    for content in (b"".join(lines), b"".join(lines)[:-9], lines[0], lines[0][:7], b""):
        path.unlink(missing_ok=True)
        part.write_bytes(content)
        before = produce(SMALL, path, 1)
        assert before == max(0, content.count(b"\n") - 1)
        assert path.read_bytes() == whole
        assert not part.exists()


def test_one_that_was_killed_in_a_line_can_be_killed_again(tmp_path: Path) -> None:
    path, part = tmp_path / "one.txt", tmp_path / "one.txt.part"
    for _ in range(2):
        with pytest.raises(KilledError):
            produce(SMALL, path, 1, kill_after(1))
        part.write_bytes(part.read_bytes()[:-9])
    produce(SMALL, path, 1)
    assert path.read_bytes() == made(tmp_path / "whole.txt")


def test_one_that_was_killed_at_the_end_is_done(tmp_path: Path) -> None:
    path, part = tmp_path / "one.txt", tmp_path / "one.txt.part"
    whole = made(path)
    part.write_text("left over")
    assert produce(SMALL, path, 1) == 100
    assert (path.read_bytes(), part.exists()) == (whole, False)


def test_a_real_kill_leaves_no_process_and_no_wrong_byte(tmp_path: Path) -> None:
    request = Request(side=9, stratum="guesses:5+", count=120)
    script = (
        f"from {NAME} import Request, produce\n"
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    produce(Request(side=9, stratum='guesses:5+', count=120), Path('one.txt'), 2)\n"
    )
    (tmp_path / "script.py").write_text(script)
    part = tmp_path / "one.txt.part"
    running = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE)
    while running.poll() is None and _lines(part) <= BLOCK:
        time.sleep(0.02)
    running.kill()
    running.communicate(timeout=120)  # waits until no worker holds its end of the pipe
    assert 0 < produce(request, tmp_path / "one.txt", 1) < 120
    assert (tmp_path / "one.txt").read_bytes() == made(tmp_path / "two.txt", request)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_excluded_puzzles_do_not_come(tmp_path: Path) -> None:
    first = tmp_path / "first.txt"
    made(first)
    exclude = keys_of_files([first], 4)
    other = Request(side=4, stratum="mixed", count=100, exclude=exclude)
    made(tmp_path / "other.txt", other)
    assert not exclude & keys_of_files([tmp_path / "other.txt"], 4)
    with pytest.raises(RefusedInputError, match=r"first\.txt has puzzles of another side than 9"):
        keys_of_files([first], 9)


def test_what_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    path, part = tmp_path / "one.txt", tmp_path / "one.txt.part"
    path.write_text("a letter")
    with pytest.raises(RefusedInputError, match=r"one\.txt is there and is not of this request"):
        produce(SMALL, path, 1)
    assert path.read_text() == "a letter"
    path.unlink()
    for text, message in (
        ("a letter", "is not of this request"),
        (json.dumps(Request(side=4, stratum="mixed", count=7).facts()) + "\n", "not of this"),
        (json.dumps(SMALL.facts()) + "\n1 x\n", "damaged"),
    ):
        part.write_text(text)
        with pytest.raises(RefusedInputError, match=message):
            produce(SMALL, path, 1)
        assert part.read_text() == text
    part.unlink()
    part.mkdir()
    with pytest.raises(RefusedInputError, match="cannot be written to"):
        produce(SMALL, path, 1)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(RefusedInputError, match="is no manifest of puzzles"):
        produce(SMALL, path, 1)


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "one.txt.part").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RefusedInputError, match="written by another process"):
            produce(SMALL, tmp_path / "one.txt", 1)


def test_it_ends_where_there_are_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sudoku_production, "VAIN_DRAWS", 3 * BLOCK)
    request = Request(side=4, stratum="minimal", count=50)
    with pytest.raises(RunFailedError, match="no more of 4 x 4 minimal"):
        produce(request, tmp_path / "one.txt", 1)
    assert (tmp_path / "one.txt.part").exists()


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sudoku_production, "write_puzzles", full)
    with pytest.raises(RunFailedError, match="No space left on device; the same command goes on"):
        produce(SMALL, tmp_path / "one.txt", 1)
    monkeypatch.undo()
    assert produce(SMALL, tmp_path / "one.txt", 1) == 100


def test_a_disk_that_is_full_from_the_start_keeps_nothing_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[object]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sudoku_production, "_begun", full)
    with pytest.raises(RunFailedError, match=r"one\.txt cannot be written: No space left"):
        produce(SMALL, tmp_path / "one.txt", 1)
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_had_no_room_to_finish_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, puzzles: object) -> str:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sudoku_production, "write_puzzles", half)
    with pytest.raises(RunFailedError, match="No space left"):
        produce(SMALL, tmp_path / "one.txt", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt.part"]
