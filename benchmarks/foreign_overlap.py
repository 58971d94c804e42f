"""`foreign_overlap FILE [TRAINING ...]`: is a foreign puzzle trained on? Run it in the project.

Compares the keys of a file's puzzles (equal for puzzles that turning, relabelling the digits and
the other symmetries make of each other) with those of every shipped split of their size, and of
further files of training puzzles. Prints counts as JSON; leaves with 1 where a training puzzle is
among them.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from reference_reasoner.reasoner.data.sudoku import given_puzzles
from reference_reasoner.reasoner.data.sudoku_rules import parse_line
from reference_reasoner.reasoner.data.sudoku_sets import SHIPPED, SIZES
from reference_reasoner.reasoner.data.sudoku_symmetry import keys


def keys_of(path: Path) -> dict[int, set[int]]:
    """{side: the keys of the file's puzzles}, whatever else stands on a line."""
    grids: dict[int, list[list[int]]] = {}
    with path.open("rb") as file:
        for given in given_puzzles(file):
            if not given.problem:
                grids.setdefault(given.size, []).append(list(parse_line(given.puzzle)))
    return {
        side: set(keys(np.array(found, dtype=np.uint8), side).tolist())
        for side, found in grids.items()
    }


def main(path: Path, training: list[Path]) -> int:
    """Print the counts."""
    theirs = keys_of(path)
    if not theirs:
        print(f"foreign_overlap: {path} holds no puzzle", file=sys.stderr)
        return 2
    splits = {
        f"shipped {side}x{side} {split}": SHIPPED / f"{side}x{side}-{split}.txt"
        for side in theirs
        for split in SIZES[side]
    }
    trained_on = {other.name: other for other in training}
    shared = {}
    for name, other in {**splits, **trained_on}.items():
        ours = keys_of(other)
        shared[name] = sum(len(found & ours.get(side, set())) for side, found in theirs.items())
    facts = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "classes": sum(map(len, theirs.values())),
        "shared_with": shared,
    }
    print(json.dumps(facts))
    return int(any(n for name, n in shared.items() if name in trained_on or "train" in name))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]]))
