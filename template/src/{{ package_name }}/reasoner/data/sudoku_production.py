"""Writes a file of puzzles with many processes, and goes on where it was stopped.

Puzzles are drawn in blocks of indices and kept in their order, without those whose key equals
that of an earlier one or of an excluded file. So what a file holds depends on the request alone,
never on the processes or on how often it was stopped.

Until it is done the file is called `FILE.part`: a line that says what was asked for, then
`index puzzle solution guesses m` for each puzzle. Then FILE is written, and its sum is entered in
`manifest.json` beside it, as `data.folder` wants it.
"""

import fcntl
import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...engine.data.splits import sha256_of_arrays
from ...engine.errors import RefusedInputError, RunFailedError
from .sudoku_generator import Puzzle, puzzle_at
from .sudoku_sets import MANIFEST, line_of, puzzle_of, read_puzzles, write_puzzles
from .sudoku_symmetry import keys

BLOCK = 32
"""Puzzles that a process draws at a time."""
VAIN_DRAWS = 20_000
"""So many draws in a row without a new puzzle mean that there are no others."""

Block = list[tuple[Puzzle, int]]
"""Puzzles in the order of their indices, each with its key."""
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a file of puzzles that is produced is to hold: side, stratum, number, seed."""

    side: int
    stratum: str
    count: int
    seed: int = 0
    exclude: frozenset[int] = field(default=frozenset(), repr=False)
    """Keys of puzzles that must not come."""

    def facts(self) -> dict[str, Any]:
        """The request as JSON."""
        excluded = None
        if self.exclude:
            array = np.array(sorted(self.exclude), dtype=np.uint64)
            excluded = sha256_of_arrays({"keys": array})
        return {
            "side": self.side,
            "stratum": self.stratum,
            "seed": self.seed,
            "count": self.count,
            "excluded_keys_sha256": excluded,
        }


def keys_of(puzzles: list[Puzzle], side: int) -> list[int]:
    """The symmetry-invariant key of each puzzle; all are of this side."""
    cells = np.frombuffer(b"".join(each.puzzle for each in puzzles), dtype=np.uint8)
    found: list[int] = keys(cells.reshape(-1, side * side), side).tolist()
    return found


def keys_of_files(paths: list[Path], side: int) -> frozenset[int]:
    """The keys of all puzzles in some files. Raises RefusedInputError for one of another side."""
    found: set[int] = set()
    for path in paths:
        puzzles = read_puzzles(path)
        if any(len(each.puzzle) != side * side for each in puzzles):
            raise RefusedInputError(f"{path} has puzzles of another side than {side}")
        found.update(keys_of(puzzles, side))
    return frozenset(found)


def produce(
    request: Request, path: Path, processes: int, progress: Progress = lambda done: None
) -> int:
    """Produce a file of puzzles in several processes; how many had been made before.

    `progress` is told the number of puzzles after every block. Raises RefusedInputError for a
    file that this request did not write or another process is writing, and RunFailedError where
    there are not so many different puzzles or the disk is full.
    """
    manifest = _manifest(path)
    part = path.with_name(path.name + ".part")
    if path.exists():
        if manifest["requests"].get(path.name) == request.facts():
            part.unlink(missing_ok=True)
            return request.count
        raise RefusedInputError(f"{path} is there and is not of this request: name another file")
    try:
        with _held(part) as file:
            puzzles = _begun(file, request, part)
            before = len(puzzles)
            _go_on(file, request, puzzles, processes, progress)
            _finish(path, request, puzzles, manifest)
            part.unlink()
    except OSError as error:  # closing the file writes once more, so it may come from there, too
        raise RunFailedError(
            f"{path} cannot be written: {error.strerror}; the same command goes on from there"
        ) from error
    return before


def _manifest(path: Path) -> dict[str, Any]:
    """Read manifest.json beside a produced file, or begin one."""
    place = path.with_name(MANIFEST)
    try:
        found = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
        return {**found, **{name: dict(found.get(name, {})) for name in ("sha256", "requests")}}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise RefusedInputError(f"{place} is no manifest of puzzles: {error}") from error


def _finish(path: Path, request: Request, puzzles: list[Puzzle], manifest: dict[str, Any]) -> None:
    """Finish a produced file, the manifest first: without an entry it would seem foreign."""
    complete, entered = path.with_name(path.name + ".tmp"), path.with_name(MANIFEST + ".tmp")
    try:
        manifest["sha256"][path.name] = write_puzzles(complete, puzzles)
        manifest["requests"][path.name] = request.facts()
        entered.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        entered.replace(path.with_name(MANIFEST))
        complete.replace(path)
    finally:
        complete.unlink(missing_ok=True)
        entered.unlink(missing_ok=True)


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """Lock the unfinished file of puzzles, for this process only."""
    try:
        file = part.open("a+b")
    except OSError as error:
        raise RefusedInputError(f"{part} cannot be written to: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RefusedInputError(f"{part} is being written by another process") from error
        try:
            yield file
        except OSError:
            if not part.stat().st_size:
                part.unlink()
            raise


def _begun(file: BinaryIO, request: Request, part: Path) -> list[Puzzle]:
    """Read the puzzles that an interrupted production left; an unfinished line is cut off."""
    header = (json.dumps(request.facts()) + "\n").encode("ascii")
    file.seek(0)
    content = file.read()
    if header.startswith(content):  # new, or killed in its first line
        file.truncate(0)
        file.write(header)
        file.flush()
        return []
    if not content.startswith(header):
        raise RefusedInputError(f"{part} is there and is not of this request: name another file")
    end = content.rfind(b"\n") + 1
    try:
        found = []
        for line in content[len(header) : end].decode("ascii").splitlines():
            index, _, rest = line.partition(" ")
            found.append(puzzle_of(rest, int(index)))
    except (ValueError, KeyError) as error:
        raise RefusedInputError(f"{part} is damaged ({error}): remove it") from error
    file.truncate(end)
    return found


def _go_on(
    file: BinaryIO, request: Request, puzzles: list[Puzzle], processes: int, progress: Progress
) -> None:
    """Go on producing puzzles: append to `puzzles` and to the file until there are enough."""
    taken = request.exclude | frozenset(keys_of(puzzles, request.side))
    seen = set(taken)
    last_new = puzzles[-1].index if puzzles else -1
    drawn = blocks(request, last_new + 1, processes)
    while len(puzzles) < request.count:
        block = next(drawn)
        new: list[Puzzle] = []
        for puzzle, key in block:
            if key not in seen and len(puzzles) + len(new) < request.count:
                seen.add(key)
                new.append(puzzle)
        file.write("".join(f"{each.index} {line_of(each)}\n" for each in new).encode("ascii"))
        file.flush()
        puzzles += new
        progress(len(puzzles))
        last_new = new[-1].index if new else last_new
        if block[-1][0].index - last_new >= VAIN_DRAWS:
            raise RunFailedError(
                f"{len(puzzles)} puzzles were made, then {VAIN_DRAWS:,} draws gave no other: there "
                f"are no more of {request.side} x {request.side} {request.stratum}"
            )
    drawn.close()


def draw_block(side: int, stratum: str, seed: int, first: int) -> Block:
    """Generate a block of BLOCK puzzles from index `first` on, with their keys."""
    drawn = [puzzle_at(seed, side, stratum, index) for index in range(first, first + BLOCK)]
    return list(zip(drawn, keys_of(drawn, side), strict=True))


def blocks(request: Request, first: int, processes: int) -> Generator[Block, None, None]:
    """Produce puzzles in blocks from index `first` on, endlessly; closing it ends the processes."""
    words = (request.side, request.stratum, request.seed)
    starts = count(first, BLOCK)
    if processes == 1:
        for start in starts:
            yield draw_block(*words, start)
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    try:
        waiting: deque[Future[Block]] = deque()
        while True:
            while len(waiting) < 2 * processes:
                waiting.append(pool.submit(draw_block, *words, next(starts)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # a Ctrl-C reaches every process of the terminal: the parent ends its workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()  # returns where the parent was killed, too
    os._exit(1)
