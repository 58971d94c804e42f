"""Sets of puzzles as text, and how those that ship are made.

`python -m <package>.data.sudoku_sets` makes them.

A line is `puzzle solution guesses m`, m for a minimal puzzle, else `-`.

A set is a pure function of its seed. Test puzzles are drawn first, then validation's, then those
for training; a puzzle whose symmetry-invariant key was there before is left out, so that no two
splits hold equivalent puzzles.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import RefusedInputError
from .integrity import verify_checksum
from .sudoku_generator import Puzzle, puzzle_at, strata
from .sudoku_rules import geometry_of, parse_line, to_line
from .sudoku_symmetry import key, keys

MANIFEST = "manifest.json"
SEED = 1
SHIPPED = Path(__file__).resolve().parent / "puzzles"
SIZES: Mapping[int, Mapping[str, int]] = {
    4: {"test": 500, "validation": 200, "train": 500},
    6: {"test": 2040, "validation": 255, "train": 6000},
    9: {"test": 500, "validation": 200, "train": 3000},
}
"""{side: {split: puzzles}}, in the order in which they are drawn."""


def make_set(side: int, sizes: Mapping[str, int], seed: int = SEED) -> dict[str, list[Puzzle]]:
    """{split: puzzles} of all strata in turn, none of which is in two splits."""
    made: dict[str, list[Puzzle]] = {}
    seen: set[int] = set()
    for split, count in sizes.items():
        found: list[Puzzle] = []
        index = 0
        while len(found) < count:
            puzzle = _of_turn(seed, side, split, len(found), index)
            index += 1
            mark = key(puzzle.puzzle)
            if mark not in seen:
                seen.add(mark)
                found.append(puzzle)
        made[split] = found
    return made


def _of_turn(seed: int, side: int, split: str, turn: int, index: int) -> Puzzle:
    """Draw `index` of the split, of the stratum whose turn it is."""
    strata_in_turn = len(strata(side, "mixed"))
    # an own run of indices for each split, in which the stratum of a turn comes again and again
    start = {"test": 0, "validation": 1, "train": 2}[split] * 10_000_000
    at = (start + index) * strata_in_turn + turn % strata_in_turn
    return puzzle_at(seed, side, "mixed", at)


def shared_solutions(made: Mapping[str, Sequence[Puzzle]]) -> float:
    """Share of the test puzzles whose solution is, up to symmetry, one of a training puzzle."""
    train, test = (_solution_keys(made[split]) for split in ("train", "test"))
    return float(np.isin(test, train).mean())


def _solution_keys(puzzles: Sequence[Puzzle]) -> NDArray[np.uint64]:
    grids = np.array([list(puzzle.solution) for puzzle in puzzles], dtype=np.uint8)
    return keys(grids, round(grids.shape[1] ** 0.5), solved=True)


def write_sets(folder: Path, sizes: Mapping[int, Mapping[str, int]]) -> None:
    """Write all splits and the manifest into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sums, overlap = {}, {}
    for side, splits in sizes.items():
        made = make_set(side, splits)
        for split, puzzles in made.items():
            name = f"{side}x{side}-{split}.txt"
            sums[name] = write_puzzles(folder / name, puzzles)
        overlap[f"{side}x{side}"] = round(shared_solutions(made), 4)
    facts = {
        "version": 1,
        "seed": SEED,
        "share_of_test_puzzles_with_a_training_solution_up_to_symmetry": overlap,
        "sha256": sums,
    }
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def line_of(puzzle: Puzzle) -> str:
    """The line of one puzzle, without its end."""
    minimal = "m" if puzzle.minimal else "-"
    return f"{to_line(puzzle.puzzle)} {to_line(puzzle.solution)} {puzzle.guesses} {minimal}"


def puzzle_of(line: str, index: int = 0) -> Puzzle:
    """The puzzle of a line. Raises ValueError for one that this module did not write."""
    puzzle, solution, guesses, minimal = line.split(" ")
    grids = parse_line(puzzle), parse_line(solution)
    rules = geometry_of(grids[0])
    if not (rules.is_solution(grids[1]) and rules.keeps_givens(*grids)):
        raise ValueError("the second grid does not solve the first")
    return Puzzle(
        puzzle=grids[0],
        solution=grids[1],
        guesses=int(guesses),
        minimal={"m": True, "-": False}[minimal],
        index=index,
    )


def read_puzzles(path: Path) -> list[Puzzle]:
    """All puzzles of a file. Raises RefusedInputError naming the line that is none."""
    found = []
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RefusedInputError(f"{path} cannot be read as puzzles: {error}") from error
    for number, line in enumerate(lines):
        try:
            found.append(puzzle_of(line, number))
        except (ValueError, KeyError) as error:
            raise RefusedInputError(
                f"{path}, line {number + 1}: {error}; a line is `puzzle solution guesses m` or `-`"
            ) from error
    return found


def write_puzzles(path: Path, puzzles: Sequence[Puzzle]) -> str:
    """Write a file of puzzles and return its sha256."""
    text = "".join(line_of(puzzle) + "\n" for puzzle in puzzles)
    path.write_text(text, encoding="ascii")
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_split(folder: Path, side: int, split: str) -> list[Puzzle]:
    """A split of the set in `folder`, whose manifest knows its sha256.

    Raises RefusedInputError for a folder without a set of this side, and for a changed file.
    """
    name = f"{side}x{side}-{split}.txt"
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        content = (folder / name).read_bytes()
        wanted = sums[name]
    except (OSError, ValueError, KeyError) as error:
        raise RefusedInputError(
            f"{folder} holds no set of {side} x {side} puzzles ({error!r}): it needs {name} and "
            f"{MANIFEST}"
        ) from error
    verify_checksum(str(folder / name), hashlib.sha256(content).hexdigest(), wanted)
    return read_puzzles(folder / name)


if __name__ == "__main__":
    write_sets(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED, SIZES)
