"""The fast solver against a plain one: same solutions, same guesses; rules and lines of text."""

import random

import pytest

from reference_reasoner.engine.seeding import numpy_generator
from reference_reasoner.reasoner.data.sudoku_generator import full_grid, puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import (
    Geometry,
    geometry,
    geometry_of,
    parse_line,
    to_line,
)
from reference_reasoner.reasoner.data.sudoku_solver import (
    Search,
    SolveResult,
    solve,
    solver,
)

from .plain_guesses import count_guesses
from .plain_sudoku import solutions

# every digit tried at every branch: 4 + 2 * 2, two of which are wrong
TWO_SOLUTIONS = "12..34.........."


@pytest.mark.parametrize(
    ("side", "stratum", "count"),
    [
        (4, "minimal", 8),
        (6, "minimal", 12),
        (9, "guesses:0", 2),
        (9, "guesses:1-4", 3),
        (9, "guesses:5+", 3),
    ],
)
def test_guesses_are_those_of_the_definition(side: int, stratum: str, count: int) -> None:
    for index in range(count):
        puzzle = puzzle_at(5, side, stratum, index)
        found = solve(puzzle.puzzle)
        assert found.solution == puzzle.solution
        assert found.guesses == puzzle.guesses
        assert (found.solutions, found.guesses) == count_guesses(puzzle.puzzle)


@pytest.mark.parametrize("side", [4, 6])
def test_puzzles_of_any_kind_are_counted_right(side: int) -> None:
    draw = random.Random(side)
    seen = set()
    for index in range(40):
        cells = bytearray(full_grid(side, numpy_generator(9, "any", side, index)))
        for cell in draw.sample(range(side * side), round(side * side * draw.uniform(0.5, 0.85))):
            cells[cell] = 0
        if index % 3 == 0:
            cells[draw.randrange(side * side)] = draw.randint(1, side)  # mostly against the rules
        puzzle = bytes(cells)
        found = solve(puzzle)
        if geometry_of(puzzle).conflicts(puzzle):
            assert found == SolveResult(solutions=0, solution=None, guesses=0)
        else:
            assert (found.solutions, found.guesses) == count_guesses(puzzle)
            assert found.solutions == len(solutions(puzzle))
        seen.add(found.solutions)
    assert seen == {0, 1, 2}


def test_guesses_by_hand() -> None:
    assert solve(parse_line("1234341221434321")).guesses == 0  # nothing is empty
    # no single anywhere: cell 2 has 3 and 4; 3 leaves cell 8 with 2 and 4, and so on
    found = solve(parse_line(TWO_SOLUTIONS))
    assert found.solutions == 2
    assert found.guesses == count_guesses(parse_line(TWO_SOLUTIONS))[1] > 1


def test_there_are_288_grids_of_4_by_4() -> None:
    search = Search(solver(4), solver(4).start)
    grids = set()
    while search.next_solution():
        grids.add(solver(4).grid(bytes(16), search.made))
    assert len(grids) == 288
    assert all(geometry(4).is_solution(grid) for grid in grids)
    assert not search.next_solution()


def test_units_and_peers() -> None:
    assert [len(each) for each in geometry(9).peers] == [20] * 81
    assert [len(each) for each in geometry(6).peers] == [12] * 36
    assert [len(each) for each in geometry(4).peers] == [7] * 16
    assert geometry(6).units[12] == (0, 1, 2, 6, 7, 8)  # a box of two rows and three columns
    assert [geometry(side).transposes for side in (4, 6, 9)] == [True, False, True]
    with pytest.raises(ValueError, match=r"\(4, 6, 9\), got 5"):
        Geometry(5)


def test_a_grid_is_held_against_the_rules() -> None:
    rules = geometry(4)
    grid = parse_line("1234341221434321")
    assert rules.is_solution(grid)
    assert not rules.is_solution(grid[:12])
    assert not rules.is_solution(parse_line("1234341221434312"))
    assert not rules.is_solution(parse_line("1234234134124123"))  # rows and columns only
    assert rules.keeps_givens(bytes(16), grid)
    assert not rules.keeps_givens(parse_line("2..............."), grid)
    assert not rules.keeps_givens(bytes(36), grid)
    assert not rules.conflicts(grid)
    assert rules.conflicts(parse_line("1....1.........."))


def test_lines() -> None:
    line = "12..3..1.......4"
    assert to_line(parse_line(f"  {line}\n")) == line
    assert parse_line(line.replace(".", "0")) == parse_line(line)
    for side in (4, 6, 9):
        assert geometry_of(parse_line("." * side * side)).side == side
    with pytest.raises(ValueError, match="a puzzle has 81, 36, 16 characters, this has 5"):
        parse_line("12345")
    with pytest.raises(ValueError, match=r"character 2 is '5'; a cell is '\.', or a digit from 0"):
        parse_line("15" + "." * 14)
    with pytest.raises(ValueError, match="character 1 is '\u00b2'"):  # a digit only for int()
        parse_line("\u00b2" + "." * 80)
