"""A Sudoku solver that works on all rules at once, as an exact cover in one large integer.

A placement is a digit in a cell. A rule is a cell (it holds one digit), or a digit in a row, a
column or a box (it has one cell there); each has `side` placements that can satisfy it. The
state is one integer with a field of side + 1 bits a rule: one bit for each placement still
possible, and above them a guard bit that is set while the rule is open. Every placement stands
in four fields. Subtracting 1 from all open fields (the guards take the borrows) shows those
without a placement, which is a contradiction, and those with exactly one: a naked single where
the rule is a cell, a hidden single otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from .sudoku_rules import geometry, geometry_of

Order = Callable[[list[int]], list[int]]
"""In which order the candidates of a cell are tried; they come with the lowest digit first."""


@dataclass(frozen=True, kw_only=True)
class SolveResult:
    """What the search found."""

    solutions: int
    """0, 1, or 2 for two or more."""
    solution: bytes | None
    """The first one found."""
    guesses: int
    """Branches tried until the number above was known; see `solve`."""


class Solver:
    """Solver of Sudokus: the tables for one side.

    A placement is the number cell * side + digit - 1.

    The fields of the cells stand lowest, in the order of the cells, so that the lowest bit is
    the lowest digit of the lowest cell.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        cells = side * side
        width = side + 1
        fields = _fields(side)
        bits = [0] * (cells * side)
        unions = []
        self.placement_at: dict[int, int] = {}
        for number, placements in enumerate(fields):
            for place, placement in enumerate(placements):
                at = number * width + place
                bits[placement] |= 1 << at
                self.placement_at[at + 1] = placement  # by bit_length
        for placements in fields:
            unions.append(0)
            for placement in placements:
                unions[-1] |= bits[placement]
        everything = (1 << (len(fields) * width)) - 1
        self.start = everything
        """The empty grid: every placement possible, every rule open."""
        self.guards = sum(1 << (number * width + side) for number in range(len(fields)))
        self.cell_fields = (1 << (cells * width)) - 1
        self.without = [everything ^ bit for bit in bits]
        """AND it to a state to forbid a placement."""
        self.placed = [everything] * len(bits)
        """AND it to a state to make a placement: what it excludes goes, its rules close."""
        for number, placements in enumerate(fields):
            closed = unions[number] | 1 << (number * width + side)
            for placement in placements:
                self.placed[placement] &= everything ^ closed

    def state_of(self, puzzle: bytes | bytearray) -> int | None:
        """The solver's state after the given digits; None where one excludes another."""
        state = self.start
        for cell, digit in enumerate(puzzle):
            if digit:
                placement = cell * self.side + digit - 1
                if state | self.without[placement] == self.without[placement]:
                    return None
                state &= self.placed[placement]
        return state

    def propagate(self, state: int, made: list[int]) -> tuple[int, int] | None:
        """Place all naked and hidden singles; appends them to `made`.

        Returns the state, 0 when it is solved, and the state without the lowest placement of
        every field; None where a rule cannot be kept any more.
        """
        side, all_guards = self.side, self.guards
        placed, placement_at = self.placed, self.placement_at
        while True:
            guards = state & all_guards
            ones = guards >> side
            less = state - ones
            if less & guards != guards:
                return None
            rest = state & less  # every open field without its lowest placement
            single = guards ^ ((rest - ones) & guards)
            if not single:
                return state, rest
            singles = state & (single - (single >> side))
            while singles:
                placement = placement_at[singles.bit_length()]
                made.append(placement)
                keep = placed[placement]
                state &= keep
                singles &= keep

    def branch_cell(self, rest: int) -> int:
        """The lowest of the cells with fewest candidates; `rest` as `propagate` returns it."""
        rest &= self.cell_fields
        guards = rest & self.guards
        ones = guards >> self.side
        while True:
            rest &= rest - ones  # one candidate less
            fewest = guards ^ ((rest - ones) & guards)
            if fewest:
                return ((fewest & -fewest).bit_length() - 1) // (self.side + 1)

    def candidates(self, state: int, cell: int) -> list[int]:
        """The placements still possible in `cell`, lowest digit first."""
        field = state >> cell * (self.side + 1)
        first = cell * self.side
        return [first + digit for digit in range(self.side) if field >> digit & 1]

    def solvable(self, state: int) -> bool:
        """Whether a Sudoku has a solution at all."""
        return Search(self, state).next_solution()

    def grid(self, puzzle: bytes, made: list[int]) -> bytes:
        """Fill the solver's placements `made` into `puzzle`."""
        grid = bytearray(puzzle)
        for placement in made:
            cell, digit = divmod(placement, self.side)
            grid[cell] = digit + 1
        return bytes(grid)


class Search:
    """Search for all solutions of a Sudoku below a state, one after another, depth first."""

    def __init__(self, tables: Solver, state: int, order: Order = list) -> None:
        self.tables = tables
        self.order = order
        self.made: list[int] = []
        """The placements that led from the state to the solution found last."""
        self.guesses = 0
        """Branches tried so far."""
        self._todo: list[tuple[int, int, int | None]] = [(state, 0, None)]

    def next_solution(self) -> bool:
        """Search on to the next solution; False where there is no other."""
        tables, made = self.tables, self.made
        while self._todo:
            state, length, guess = self._todo.pop()
            del made[length:]
            if guess is not None:
                self.guesses += 1
                made.append(guess)
                state &= tables.placed[guess]
            reached = tables.propagate(state, made)
            if reached is None:
                continue
            state, rest = reached
            if not state:
                return True
            branches = self.order(tables.candidates(state, tables.branch_cell(rest)))
            self._todo += [(state, len(made), each) for each in reversed(branches)]
        return False


def _fields(side: int) -> list[list[int]]:
    """The placements of every Sudoku rule: cells, then each digit in each row, column and box."""
    fields = [[cell * side + digit for digit in range(side)] for cell in range(side * side)]
    for unit in geometry(side).units:
        fields += [[cell * side + digit for cell in unit] for digit in range(side)]
    return fields


@cache
def solver(side: int) -> Solver:
    """The one Solver of a side."""
    return Solver(side)


def solve(puzzle: bytes) -> SolveResult:
    """Count the solutions of `puzzle`, up to 2.

    `guesses`, our measure of difficulty: after constraint propagation by naked and hidden
    singles take the cell with fewest candidates, lowest index first, and try its digits in
    ascending order. Each digit tried counts 1, in all of the tree that is needed until no
    second solution can be there, or one is found. Raises ValueError for a puzzle whose length
    fits no side.
    """
    tables = solver(geometry_of(puzzle).side)
    state = tables.state_of(puzzle)
    if state is None:
        return SolveResult(solutions=0, solution=None, guesses=0)
    search = Search(tables, state)
    solutions, first = 0, None
    while solutions < 2 and search.next_solution():
        solutions += 1
        first = first or tables.grid(puzzle, search.made)
    return SolveResult(solutions=solutions, solution=first, guesses=search.guesses)
