"""`solve`: let a trained reasoner solve the Sudoku puzzles in a file."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..command_line import Parser
from ..errors import RefusedInputError

BATCH = 64
LONGEST_LINE = 4096
"""Bytes; what is longer is no puzzle, and is not kept in memory."""
NAMED = 20
"""Lines that are no puzzles, or of another size, that are named one by one."""


@dataclass(kw_only=True)
class Totals:
    """What the last line says."""

    solved: int = 0
    tried: int = 0
    skipped: int = 0
    other_sizes: list[int] = field(default_factory=list)
    """Numbers of lines whose size these weights cannot do; the first few of them."""
    of_other_size: int = 0


def main(argv: Sequence[str]) -> int:
    """Solve the file that `argv` names; 2 where a line has a size that the weights cannot do."""
    parser = Parser(
        "solve",
        description="Solve Sudoku puzzles, one a line: 81, 36 or 16 characters, `.` or `0` for an "
        "empty cell; lines that begin with # are comments.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the puzzles")
    parser.add_argument("--run", metavar="RUN", help="default: the newest run on Sudoku")
    parser.add_argument("--steps", type=int, metavar="N", help="most steps; default: as trained")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results here")
    flags = parser.parse_strictly(argv)
    if flags.steps is not None and flags.steps < 1:
        parser.error(f"--steps {flags.steps}: at least one step is taken")
    if flags.json is not None and not flags.json.parent.is_dir():
        parser.error(f"--json {flags.json}: there is no folder {flags.json.parent}")
    with _opened(flags.file) as file, _results(flags.json) as keep:
        totals = _solve(file, flags.run, flags.steps, keep)
        if not totals.tried and not totals.of_other_size:
            raise RefusedInputError(
                f"{flags.file} holds no puzzle ({totals.skipped} other lines): write one a line, "
                "81, 36 or 16 characters, `.` or `0` for an empty cell"
            )
    return _conclude(totals)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise RefusedInputError(
            f"{path} cannot be read: {error.strerror}; name a file of puzzles"
        ) from error


@contextlib.contextmanager
def _results(path: Path | None) -> Iterator[Any]:
    """A function that keeps one result; the file appears whole or not at all."""
    if path is None:
        yield lambda result: None
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            between = "[\n"

            def keep(result: dict[str, Any]) -> None:
                nonlocal between
                file.write(between + json.dumps(result))
                between = ",\n"

            yield keep
            file.write("[]\n" if between == "[\n" else "\n]\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, str | None]]:
    """(number from 1, text) of each line that is not empty or a comment; None if it is too long."""
    number = 0
    while piece := file.readline(LONGEST_LINE):
        number += 1
        whole = piece.endswith(b"\n") or len(piece) < LONGEST_LINE
        while not piece.endswith(b"\n") and len(piece) == LONGEST_LINE:
            piece = file.readline(LONGEST_LINE)
        text = piece.decode("utf-8", errors="replace").strip()
        if not whole:
            yield number, None
        elif text and not text.startswith("#"):
            yield number, text


def _solve(file: IO[bytes], run: str | None, steps: int | None, keep: Any) -> Totals:
    from ..data.sudoku_rules import parse_line
    from ..tasks.solving import attempt
    from .solve_weights import trained_sudoku

    trained = trained_sudoku(run)
    print(trained.described)
    totals, waiting = Totals(), list[tuple[int, Any]]()

    def flush() -> None:
        if not waiting:
            return
        found = attempt(
            trained.model,
            [puzzle for _, puzzle in waiting],
            threshold=trained.threshold,
            max_steps=steps or trained.max_steps,
        )
        for (number, _), result in zip(waiting, found, strict=True):
            totals.tried += 1
            totals.solved += result.solved
            keep({"line": number, **asdict(result)})
            print(_shown(number, result, trained.side if sys.stdout.isatty() else 0))
        waiting.clear()

    for number, text in _lines(file):
        try:
            if text is None:
                raise ValueError(f"it is longer than {LONGEST_LINE} bytes")
            puzzle = parse_line(text)
        except ValueError as error:
            totals.skipped += 1
            if totals.skipped <= NAMED:
                print(f"line {number} is no puzzle: {error}", file=sys.stderr)
            continue
        if len(puzzle) != trained.side**2:
            totals.of_other_size += 1
            totals.other_sizes += [number] if totals.of_other_size <= NAMED else []
            continue
        waiting.append((number, puzzle))
        if len(waiting) == BATCH:
            flush()
    flush()
    return totals


def _shown(number: int, result: Any, side: int) -> str:
    """One line of a result, and the grid below it where `side` is not 0."""
    verdict = result.solution if result.solved else "not solved"
    line = (
        f"line {number}: {verdict}  {result.steps} steps  confidence {result.confidence:.3f}  "
        f"{result.seconds:.3f} s"
    )
    if not side or not result.solved:
        return line
    rows = [result.solution[at : at + side] for at in range(0, side * side, side)]
    return "\n".join([line, *(f"    {' '.join(row)}" for row in rows)])


def _conclude(totals: Totals) -> int:
    if totals.skipped > NAMED:
        print(f"and {totals.skipped - NAMED} more lines are no puzzles", file=sys.stderr)
    if totals.of_other_size:
        numbers = ", ".join(map(str, totals.other_sizes))
        more = totals.of_other_size - len(totals.other_sizes)
        print(
            f"of a size that these weights cannot do: lines {numbers}"
            + (f" and {more} more" if more else ""),
            file=sys.stderr,
        )
    print(
        f"{totals.solved} of {totals.tried} puzzles solved, {totals.skipped} lines skipped, "
        f"{totals.of_other_size} of another size"
    )
    return 2 if totals.of_other_size else 0
