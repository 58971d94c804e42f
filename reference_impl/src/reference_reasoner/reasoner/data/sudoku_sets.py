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

from ...engine.data.splits import in_two_splits, verify_checksum
from ...engine.errors import RefusedInputError
from .sudoku_generator import Puzzle, puzzle_at, strata
from .sudoku_rules import geometry, geometry_of, parse_line, to_line
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
    """Make a set of Sudokus, {split: puzzles}: all strata in turn, none in two splits."""
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
    """Generate draw `index` of a split, of the stratum whose turn it is."""
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
    """Write all splits of a Sudoku set and its manifest into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sums, overlap = {}, {}
    for side, splits in sizes.items():
        made = make_set(side, splits)
        for split, puzzles in made.items():
            name = name_of(side, split)
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
    """Format one puzzle of a Sudoku set as a line, without its end."""
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
    """Read a Sudoku set's file. Raises RefusedInputError naming a line that is no puzzle."""
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

    Raises RefusedInputError for a folder without a set of this side, and for a changed file or
    one that holds nothing or a puzzle of another side.
    """
    name = name_of(side, split)
    try:
        sums = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        content = (folder / name).read_bytes()
        wanted = sums[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedInputError(
            f"{folder} holds no set of {side} x {side} puzzles ({error!r}): it needs {name} and "
            f"{MANIFEST}"
        ) from error
    verify_checksum(str(folder / name), hashlib.sha256(content).hexdigest(), wanted)
    puzzles = read_puzzles(folder / name)
    others = [each.index + 1 for each in puzzles if len(each.puzzle) != side * side]
    if others or not puzzles:
        problem = f"line {others[0]} is none" if others else "there is none in it"
        raise RefusedInputError(
            f"{folder / name} must hold {side} x {side} puzzles, and {problem}: make it with "
            f"`generate --side {side}`"
        )
    return puzzles


def check_apart(folder: Path, side: int, made: Mapping[str, Sequence[Puzzle]]) -> None:
    """Raise RefusedInputError where two splits, read from `folder`, hold equivalent puzzles.

    Training sees symmetries, so that a turned puzzle is as good as a copy.
    """
    cells = b"".join(puzzle.puzzle for puzzles in made.values() for puzzle in puzzles)
    grids = np.frombuffer(cells, dtype=np.uint8).reshape(-1, side * side)
    starts, splits, total = {}, {}, 0
    for split, puzzles in made.items():
        starts[split], splits[split] = total, np.arange(total, total + len(puzzles))
        total += len(puzzles)
    # keys of a large set take seconds: they are for puzzles that a quick look cannot tell apart
    marks = _outlines(grids, side)
    alike = _in_several(marks, splits)
    marks[alike] = keys(grids[alike], side)
    found = in_two_splits(marks, {s: np.intersect1d(each, alike) for s, each in splits.items()})
    if found is not None:
        (split, index), (other, copy) = found
        raise RefusedInputError(
            f"{folder / name_of(side, split)}, line {index - starts[split] + 1}: this puzzle, or a "
            f"symmetry of it, is line {copy - starts[other] + 1} of {name_of(side, other)}, and "
            "none may stand in two splits: make one of the two files with `generate --exclude` "
            "and the other"
        )


def name_of(side: int, split: str) -> str:
    """The file of a split."""
    return f"{side}x{side}-{split}.txt"


def _in_several(
    marks: NDArray[np.uint64], splits: Mapping[str, NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Indices of the puzzles whose mark is in more than one split of the set."""
    of_splits = np.concatenate([np.unique(marks[indices]) for indices in splits.values()])
    values, counts = np.unique(of_splits, return_counts=True)
    return np.flatnonzero(np.isin(marks, values[counts > 1]))


def _outlines(grids: NDArray[np.uint8], side: int) -> NDArray[np.uint64]:
    """A number for each grid [N, cells] that no symmetry changes and many grids share; [N].

    How often something is given in a cell's row, column and box, and how often its digit: as
    one number a cell, of which the cubes are added up, which seldom gives equal sums by chance.
    """
    rules, small = geometry(side), np.int16  # in int64 it takes twice the time
    given = (grids > 0).reshape(-1, side, side)
    rows = given.sum(axis=2, keepdims=True, dtype=small)
    columns = given.sum(axis=1, keepdims=True, dtype=small)
    tall, wide = rules.box_rows, rules.box_columns
    boxes = given.reshape(-1, side // tall, tall, side // wide, wide)
    boxes = boxes.sum(axis=(2, 4), dtype=small).repeat(tall, axis=1).repeat(wide, axis=2)
    digit = grids + (side + 1) * np.arange(len(grids))[:, None]  # each grid counts its own
    counts = np.bincount(digit.ravel(), minlength=len(grids) * (side + 1)).astype(small)
    counts[:: side + 1] = 0  # empty cells
    # rows and columns may change places
    codes = np.minimum(rows, columns) * 10 + np.maximum(rows, columns)
    codes = (codes * 10 + boxes) * 10 + counts[digit].reshape(given.shape)
    cubes: NDArray[np.uint64] = np.arange(10_000, dtype=np.uint64) ** 3
    return cubes[codes].sum(axis=(1, 2))


if __name__ == "__main__":
    write_sets(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED, SIZES)
