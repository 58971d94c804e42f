"""`generate`: make Sudoku puzzles that have one solution."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ...engine.commands.parser import Parser
from ...engine.project import Project


def main(argv: Sequence[str], project: Project) -> int:
    """Generate the Sudoku puzzles that `argv` asks for, into the file that it names."""
    parser = Parser(
        "generate",
        description="Make Sudoku puzzles with one solution, none equivalent to another. The same "
        "command goes on after a kill; --processes does not change what comes out. A folder with "
        "9x9-train.txt, 9x9-validation.txt and 9x9-test.txt serves as data.folder.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="write them here")
    parser.add_argument("--side", type=int, choices=[4, 6, 9], default=9, help="default: 9")
    parser.add_argument(
        "--stratum",
        default="mixed",
        help="mixed (default), minimal, blanks:N; 9 x 9 also guesses:0, guesses:1-4, guesses:5+",
    )
    parser.add_argument("--count", type=int, required=True, metavar="N", help="puzzles in it")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument(
        "--exclude",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="none equivalent to a puzzle of these files (training files: name the test file)",
    )
    parser.add_argument(
        "--processes", type=int, default=_cores(), metavar="P", help="default: %(default)s"
    )
    flags = parser.parse_strictly(argv)
    if flags.processes < 1:
        parser.error(f"--processes {flags.processes}: at least 1")
    if flags.count < 1:
        parser.error(f"--count {flags.count}: at least 1")
    if flags.seed < 0:
        parser.error(f"--seed {flags.seed}: at least 0")
    parser.check_output("--out", flags.out)

    from ..data.sudoku_generator import strata
    from ..data.sudoku_production import Request, keys_of_files, produce

    try:
        strata(flags.side, flags.stratum)
    except ValueError as error:
        parser.error(f"--stratum: {error}")
    request = Request(
        side=flags.side,
        stratum=flags.stratum,
        count=flags.count,
        seed=flags.seed,
        exclude=keys_of_files(flags.exclude, flags.side),
    )
    with closing(_Progress(flags.count)) as progress:
        before = produce(request, flags.out, flags.processes, progress.show)
    print(f"{flags.out}: {flags.count} puzzles, {before} of them were there before")
    return 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Progress:
    """Progress of making puzzles: one line on a terminal; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.terminal = sys.stderr.isatty()
        self.since = time.perf_counter()
        self.first: int | None = None

    def show(self, done: int) -> None:
        if self.first is None:  # speed is counted from the first block on
            self.first, self.since = done, time.perf_counter()
        if self.terminal:
            speed = (done - self.first) / max(1e-9, time.perf_counter() - self.since)
            print(f"\r{done}/{self.total} puzzles, {speed:.1f}/s ", end="", file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        if self.terminal and self.first is not None:
            print(file=sys.stderr)
