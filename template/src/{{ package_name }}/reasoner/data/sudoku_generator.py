"""Makes Sudoku puzzles with one solution; puzzle i is a function of (seed, side, stratum, i).

A minimal puzzle is what is left of a random solved grid after its digits were taken away, in a
random order, wherever the solution stays the only one: none of those left can go. As the rest
has one solution, a digit can go exactly if no solution has another digit in its cell.
"""

import re
from dataclasses import dataclass

import numpy as np

from ...engine.seeding import numpy_generator
from .sudoku_rules import geometry, geometry_of
from .sudoku_solver import Search, solve, solver

MOST_BLANKS = {4: 9, 6: 23, 9: 54}
"""More blanks than this are for minimal puzzles; nearly every minimal one has more."""
MIXED_FROM = {4: 5, 6: 8}
"""The fewest blanks of the stratum `mixed`."""


@dataclass(frozen=True, kw_only=True)
class Puzzle:
    """A generated Sudoku and what is known of it: solution, guesses, whether it is minimal."""

    puzzle: bytes
    """Its cells; 0 is empty."""
    solution: bytes
    """The only one."""
    guesses: int
    """How hard it is, as `sudoku_solver.solve` counts."""
    minimal: bool
    """Whether every given digit is needed."""
    index: int = 0
    """Which draw of its seed and stratum it is."""

    @property
    def blanks(self) -> int:
        """Empty cells."""
        return self.puzzle.count(0)


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Which puzzles are asked for."""

    blanks: int | None = None
    """Digits are put back until so many cells are empty; None leaves the puzzle minimal."""
    least_guesses: int = 0
    most_guesses: int | None = None

    def takes(self, guesses: int) -> bool:
        """Whether a minimal puzzle of so many guesses belongs to it."""
        most = guesses if self.most_guesses is None else self.most_guesses
        return self.least_guesses <= guesses <= most


MINIMAL = Stratum()
BY_GUESSES = {
    "guesses:0": Stratum(most_guesses=0),
    "guesses:1-4": Stratum(least_guesses=1, most_guesses=4),
    "guesses:5+": Stratum(least_guesses=5),
}


def strata(side: int, name: str) -> tuple[Stratum, ...]:
    """The strata of difficulty that generated puzzles 0, 1, 2, ... take in turn.

    `minimal`; `blanks:N`, N blanks and more digits than needed; for 9 x 9 `guesses:0`,
    `guesses:1-4`, `guesses:5+`, which are minimal, and `mixed`, these three in turn. Smaller
    ones rarely need a guess: `mixed` is every number of blanks from MIXED_FROM to MOST_BLANKS
    in turn, for 6 x 6 minimal ones too; 4 x 4 has only 36 of these. Raises ValueError for any
    other name.
    """
    if name == "minimal":
        return (MINIMAL,)
    if side == 9 and name in BY_GUESSES:
        return (BY_GUESSES[name],)
    if side == 9 and name == "mixed":
        return tuple(BY_GUESSES.values())
    if name == "mixed":
        range_of_blanks = range(MIXED_FROM[side], MOST_BLANKS[side] + 1)
        minimal = (MINIMAL,) if side == 6 else ()
        return (*(Stratum(blanks=blanks) for blanks in range_of_blanks), *minimal)
    if re.fullmatch(r"blanks:[0-9]{1,2}", name):
        blanks = int(name.removeprefix("blanks:"))
        if 1 <= blanks <= MOST_BLANKS[side]:
            return (Stratum(blanks=blanks),)
    known = ["minimal", "mixed", f"blanks:1 to blanks:{MOST_BLANKS[side]}"]
    known += BY_GUESSES if side == 9 else []
    raise ValueError(f"{side} x {side} has the strata {', '.join(known)}; got {name!r}")


def full_grid(side: int, generator: np.random.Generator) -> bytes:
    """A solved grid; every one can come, not all equally often."""
    tables = solver(side)

    def shuffled(candidates: list[int]) -> list[int]:
        generator.shuffle(candidates)
        return candidates

    search = Search(tables, tables.start, shuffled)
    search.next_solution()
    return tables.grid(bytes(geometry(side).cells), search.made)


def minimal_puzzle(solution: bytes, generator: np.random.Generator) -> bytes:
    """The digits of `solution` that are left when no other can go."""
    left = bytearray(solution)
    for cell in generator.permutation(len(solution)).tolist():
        if not _needed(left, cell):
            left[cell] = 0
    return bytes(left)


def is_minimal(puzzle: bytes) -> bool:
    """Whether a puzzle with one solution loses that by the loss of any digit."""
    cells = bytearray(puzzle)
    return all(_needed(cells, cell) for cell, digit in enumerate(puzzle) if digit)


def _needed(puzzle: bytearray, cell: int) -> bool:
    """Whether a clue is needed: a solution with another digit in `cell` exists without it."""
    tables = solver(geometry_of(puzzle).side)
    digit = puzzle[cell]
    puzzle[cell] = 0
    state = tables.state_of(puzzle)
    puzzle[cell] = digit
    assert state is not None  # a part of a solution
    return tables.solvable(state & tables.without[cell * tables.side + digit - 1])


def with_extra_clues(
    minimal: bytes, solution: bytes, blanks: int, generator: np.random.Generator
) -> bytes:
    """`minimal` with random digits of `solution` put back until `blanks` cells are empty.

    Raises ValueError where it has fewer empty cells than that.
    """
    empty = [cell for cell, digit in enumerate(minimal) if not digit]
    if len(empty) < blanks:
        raise ValueError(f"the puzzle has {len(empty)} empty cells, fewer than {blanks}")
    cells = bytearray(minimal)
    for cell in generator.permutation(empty)[blanks:].tolist():
        cells[cell] = solution[cell]
    return bytes(cells)


def puzzle_at(seed: int, side: int, stratum: str, index: int) -> Puzzle:
    """Puzzle `index` of the stratum that `strata` knows by this name, whoever asks for it."""
    parts = strata(side, stratum)
    wanted = parts[index % len(parts)]
    generator = numpy_generator(seed, "sudoku", side, stratum, index)
    while True:
        solution = full_grid(side, generator)
        puzzle = minimal_puzzle(solution, generator)
        minimal = wanted.blanks is None
        if wanted.blanks is not None:
            if puzzle.count(0) <= wanted.blanks:
                continue
            puzzle = with_extra_clues(puzzle, solution, wanted.blanks, generator)
        guesses = solve(puzzle).guesses
        if not minimal or wanted.takes(guesses):
            return Puzzle(
                puzzle=puzzle, solution=solution, guesses=guesses, minimal=minimal, index=index
            )
