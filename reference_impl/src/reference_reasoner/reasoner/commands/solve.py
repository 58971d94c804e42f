"""`solve`: let a trained reasoner solve the puzzles in a file."""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...engine.commands.parser import Parser
from ...engine.errors import RefusedInputError
from ...engine.project import Project

if TYPE_CHECKING:
    from ..data.puzzle_files import Given
    from ..tasks.puzzles import PuzzleTask
    from ..tasks.solving import Attempt
    from .solve_weights import Trained

BATCH = 64
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


def main(argv: Sequence[str], project: Project) -> int:
    """Solve the file that `argv` names; 2 where a line has a size that no weights can do."""
    parser = Parser(
        "solve",
        description="Solve puzzles. Sudoku: one a line, 81, 36 or 16 characters, `.` or `0` for "
        "an empty cell; lines that begin with # are comments. With a run on mazes: mazes as text, "
        "an empty line after each. Each size goes to the newest run that can do it, else to the "
        "weights that ship for it.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the puzzles")
    parser.add_argument(
        "--run", metavar="RUN", help="solve with this run, or with weights that ship, by their name"
    )
    parser.add_argument("--steps", type=int, metavar="N", help="most steps; default: as trained")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results here")
    flags = parser.parse_strictly(argv)
    if flags.steps is not None and flags.steps < 1:
        parser.error(f"--steps {flags.steps}: at least one step is taken")
    parser.check_output("--json", flags.json)
    with _opened(flags.file) as file, _results(flags.json) as keep:
        totals = _solve(project, file, flags, keep)
    return _conclude(totals)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the file of puzzles, or a copy of what comes out of a pipe: it is read twice."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise RefusedInputError(
            f"{path} cannot be read: {error.strerror}; name a file of puzzles"
        ) from error
    with file:
        if file.seekable():
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


@contextlib.contextmanager
def _results(path: Path | None) -> Iterator[Any]:
    """Open the output file of solved puzzles: a function that keeps one; whole or not at all."""
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


def _solve(project: Project, file: IO[bytes], flags: Any, keep: Any) -> Totals:
    from .solve_weights import weights_for

    reader, by_size = weights_for(project, flags.file, file, flags.run)
    totals, waiting = Totals(), list["Given"]()
    for given in reader.given(file):
        if given.problem:
            totals.skipped += 1
            if totals.skipped <= NAMED:
                print(f"line {given.line} is no puzzle: {given.problem}", file=sys.stderr)
        elif given.size not in by_size:
            totals.of_other_size += 1
            totals.other_sizes += [given.line] if totals.of_other_size <= NAMED else []
        else:
            waiting.append(given)
        if len(waiting) == BATCH:
            _flush(waiting, by_size, flags.steps, totals, keep)
    _flush(waiting, by_size, flags.steps, totals, keep)
    if not totals.tried and not totals.of_other_size:
        raise RefusedInputError(
            f"{flags.file} holds no puzzle of {reader.name} ({totals.skipped} places without "
            f"one): write {reader.form}, or name weights for what it holds with --run"
        )
    return totals


def _flush(
    waiting: "list[Given]",
    by_size: "dict[int, Trained]",
    steps: int | None,
    totals: Totals,
    keep: Any,
) -> None:
    """Solve the puzzles that wait, each size at once, and print them in the file's order."""
    from ..tasks.solving import attempt

    if waiting and not totals.tried:
        print("\n".join(dict.fromkeys(each.described for each in by_size.values())))
    found: dict[int, Attempt] = {}
    for size in {given.size for given in waiting}:
        here = [given for given in waiting if given.size == size]
        trained = by_size[size]
        attempts = attempt(
            trained.task,
            trained.solver,
            [given.puzzle for given in here],
            threshold=trained.threshold,
            max_steps=steps or trained.max_steps,
        )
        found |= {given.line: each for given, each in zip(here, attempts, strict=True)}
    for given in waiting:
        result = found[given.line]
        totals.tried += 1
        totals.solved += result.solved
        keep({"line": given.line, **asdict(result)})
        print(_shown(given.line, result, by_size[given.size].task))
    waiting.clear()


def _shown(number: int, result: "Attempt", task: "PuzzleTask[Any]") -> str:
    """Show a solved puzzle as a line; below it the grid, on a terminal or if no line holds it."""
    told = f"{result.steps} steps  confidence {result.confidence:.3f}  {result.seconds:.3f} s"
    if result.solution is None:
        return f"line {number}: not solved  {told}"
    grid = "\n".join(f"    {row}" for row in task.grid(result.solution).split("\n"))
    if not result.solution.isdigit():
        return f"line {number}: solved  {told}\n{grid}"
    line = f"line {number}: {result.solution}  {told}"
    return f"{line}\n{grid}" if sys.stdout.isatty() else line


def _conclude(totals: Totals) -> int:
    if totals.skipped > NAMED:
        more = totals.skipped - NAMED
        print(f"and {more} more places hold no puzzle", file=sys.stderr)
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
