"""`nox -s evidence`: every timed or counted line that the reference model is held to.

Renders the reference into a temporary folder, runs what a user would run there, prints a table of
what is required and what came out, and writes it as JSON. Takes about 50 minutes; `--only` takes
one part. Trainings run one after another with one thread each; times are wall clock.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.reference import render_reference
from tests.rendering import files_in

from . import ROOT
from .claims import Line, machine
from .puzzle_evidence import puzzles
from .reference_project import Reference
from .solve_evidence import solve
from .training_evidence import maze, sudoku4, sudoku6


def rendering(reference: Reference) -> Iterator[Line]:
    """The reference is rendered twice."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            render_reference(ROOT, Path(folder) / str(i), ref="HEAD") for i in range(2)
        )
        same = files_in(first) == files_in(second) and all(
            (first / name).read_bytes() == (second / name).read_bytes() for name in files_in(first)
        )
    yield Line(
        claim="two renders of the reference",
        required="equal",
        measured="equal" if same else "different",
        holds=same,
    )


PARTS: dict[str, Callable[[Reference], Iterator[Line]]] = {
    "rendering": rendering,
    "puzzles": puzzles,
    "solve": lambda reference: solve(reference, None),
    "sudoku4": sudoku4,
    "sudoku6": sudoku6,
    "maze": maze,
}


def main(argv: list[str]) -> int:
    """Run the parts, print each line as it comes, write the JSON; 1 where a line does not hold."""
    parser = argparse.ArgumentParser(prog="evidence", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--puzzles", type=Path, metavar="FILE", help="`solve` this file, too")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the table here, beside other parts"
    )
    flags = parser.parse_args(argv)
    parts = {**PARTS, "solve": lambda reference: solve(reference, flags.puzzles)}
    if flags.puzzles is not None and not flags.puzzles.is_file():
        parser.error(f"--puzzles {flags.puzzles}: there is no such file")
    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(Path(folder))
        for part in flags.only:
            for line in parts[part](reference):
                found.setdefault(part, []).append(asdict(line))
                mark = {True: "holds", False: "FAILS", None: ""}[line.holds]
                print(f"{line.claim:<72} {line.required:<10} {line.measured}  {mark}", flush=True)
    if flags.json is not None:
        parts_before = known_parts(flags.json)
        in_order = {part: found.get(part, parts_before.get(part)) for part in PARTS}
        kept = {part: lines for part, lines in in_order.items() if lines}
        text = json.dumps({"machine": machine(), "parts": kept}, indent=2)
        flags.json.write_text(text + "\n", encoding="utf-8")
    return int(any(line["holds"] is False for lines in found.values() for line in lines))


def known_parts(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The parts that an older run on the same kind of machine wrote; the others must run again."""
    if not path.exists():
        return {}
    before = json.loads(path.read_text(encoding="utf-8"))
    return before["parts"] if before["machine"] == machine() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
