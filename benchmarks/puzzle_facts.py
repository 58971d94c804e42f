"""Counts and speeds of the reference's puzzles, as JSON on the standard output.

`evidence.py` runs it with the Python of a rendered reference project, in that project.
"""

import json
import multiprocessing
import sys
import time
from collections.abc import Callable

import numpy as np
from reference_reasoner.reasoner.data.sudoku_generator import Puzzle, is_minimal, puzzle_at
from reference_reasoner.reasoner.data.sudoku_sets import MANIFEST, SHIPPED, SIZES, read_split
from reference_reasoner.reasoner.data.sudoku_symmetry import keys
from tests.reasoner.data.plain_sudoku import solutions

FRESH = 500
SEED = 606
SPEEDS = {"minimal": 300, "guesses:5+": 100, "blanks:45": 300}
"""{stratum of 9 x 9: puzzles to time}"""


def confirmed(puzzle: Puzzle) -> bool:
    """Whether the plain solver finds the solution and no other, and a minimal one is minimal."""
    right = solutions(puzzle.puzzle) == [puzzle.solution]
    return right and (not puzzle.minimal or is_minimal(puzzle.puzzle))


def fresh(index: int) -> bool:
    """Whether a new puzzle, of the sides in turn, is confirmed."""
    return confirmed(puzzle_at(SEED, (4, 6, 9)[index % 3], "mixed", index // 3))


def per_second(stratum: str, count: int) -> float:
    """9 x 9 puzzles that one process makes in a second of CPU time."""
    puzzle_at(SEED, 9, stratum, count)  # fills the tables
    began = time.process_time()
    for index in range(count):
        puzzle_at(SEED, 9, stratum, index)
    return count / (time.process_time() - began)


def same_class(splits: dict[str, list[Puzzle]], side: int) -> int:
    """Puzzles that equal another one of any split up to symmetry."""
    grids = [list(each.puzzle) for puzzles in splits.values() for each in puzzles]
    marks = keys(np.array(grids, dtype=np.uint8), side)
    return len(marks) - len(np.unique(marks))


def count_true(what: Callable[..., bool], over: list[object]) -> int:
    """How often `what` holds, on all cores."""
    with multiprocessing.Pool() as pool:
        return sum(pool.imap_unordered(what, over, chunksize=16))


def main() -> int:
    """Print the facts."""
    sets = {side: {s: read_split(SHIPPED, side, s) for s in SIZES[side]} for side in SIZES}
    every = [
        puzzle for splits in sets.values() for puzzles in splits.values() for puzzle in puzzles
    ]
    six = sets[6]["test"]
    manifest = json.loads((SHIPPED / MANIFEST).read_text(encoding="utf-8"))
    facts = {
        "shipped": len(every),
        "shipped_confirmed": count_true(confirmed, every),
        "fresh": FRESH,
        "fresh_confirmed": count_true(fresh, list(range(FRESH))),
        "equal_up_to_symmetry": sum(same_class(splits, side) for side, splits in sets.items()),
        "test_9x9": len(sets[9]["test"]),
        "test_9x9_minimal": sum(each.minimal for each in sets[9]["test"]),
        "test_6x6": len(six),
        "test_6x6_by_blanks": sorted({sum(p.blanks == b for p in six) for b in range(8, 23)}),
        "test_6x6_minimal": sum(each.minimal for each in six),
        "shipped_bytes": sum(path.stat().st_size for path in SHIPPED.iterdir()),
        "shared_solutions": manifest[
            "share_of_test_puzzles_with_a_training_solution_up_to_symmetry"
        ],
        "per_second": {name: per_second(name, count) for name, count in SPEEDS.items()},
    }
    print(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
