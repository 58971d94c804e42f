"""Puzzles of the stratum that was asked for, minimal where they say so."""

import pytest

from reference_reasoner.engine.seeding import numpy_generator
from reference_reasoner.reasoner.data.sudoku_generator import (
    MOST_BLANKS,
    full_grid,
    is_minimal,
    minimal_puzzle,
    puzzle_at,
    strata,
    with_extra_clues,
)
from reference_reasoner.reasoner.data.sudoku_rules import geometry
from reference_reasoner.reasoner.data.sudoku_solver import solve

from .plain_sudoku import solutions


@pytest.mark.parametrize(
    ("side", "stratum", "count"),
    [
        (4, "minimal", 15),
        (4, "mixed", 5),
        (6, "minimal", 10),
        (9, "minimal", 4),
        (9, "blanks:45", 4),
    ],
)
def test_a_plain_solver_finds_the_same_only_solution(side: int, stratum: str, count: int) -> None:
    for index in range(count):
        drawn = puzzle_at(21, side, stratum, index)
        assert solutions(drawn.puzzle) == [drawn.solution]


def test_no_digit_of_a_minimal_puzzle_can_go() -> None:
    for side, count in ((4, 10), (6, 4)):
        for index in range(count):
            puzzle = puzzle_at(22, side, "minimal", index).puzzle
            for cell, digit in enumerate(puzzle):
                if digit:
                    less = puzzle[:cell] + bytes(1) + puzzle[cell + 1 :]
                    assert len(solutions(less)) == 2
            assert is_minimal(puzzle)
    nine = puzzle_at(22, 9, "minimal", 0)
    assert is_minimal(nine.puzzle)
    place = nine.puzzle.index(0)
    more = nine.puzzle[:place] + nine.solution[place : place + 1] + nine.puzzle[place + 1 :]
    assert not is_minimal(more)


@pytest.mark.parametrize(
    ("stratum", "least", "most"),
    [("guesses:0", 0, 0), ("guesses:1-4", 1, 4), ("guesses:5+", 5, 10**6)],
)
def test_guesses_of_a_stratum(stratum: str, least: int, most: int) -> None:
    for index in range(6):
        drawn = puzzle_at(23, 9, stratum, index)
        assert least <= solve(drawn.puzzle).guesses == drawn.guesses <= most
        assert drawn.minimal


def test_blanks_of_a_stratum() -> None:
    for side, blanks in ((4, 5), (6, 23), (9, 40), (9, 54)):
        drawn = puzzle_at(24, side, f"blanks:{blanks}", 0)
        assert drawn.blanks == blanks == drawn.puzzle.count(0)
        assert not drawn.minimal
        assert not is_minimal(drawn.puzzle)
        assert solve(drawn.puzzle).solution == drawn.solution


def test_a_minimal_puzzle_is_none_with_extra_clues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MOST_BLANKS, 9, 57)  # as many as minimal puzzles have
    for index in range(10):
        assert not is_minimal(puzzle_at(24, 9, "blanks:57", index).puzzle)


def test_mixed_takes_its_strata_in_turn() -> None:
    nine = [puzzle_at(25, 9, "mixed", index).guesses for index in range(6)]
    assert [min(guesses, 5) for guesses in nine][::3] == [0, 0]
    assert all(1 <= guesses <= 4 for guesses in nine[1::3])
    assert all(guesses >= 5 for guesses in nine[2::3])
    six = [puzzle_at(25, 6, "mixed", index) for index in range(34)]
    assert [drawn.blanks for drawn in six[:16]] == list(range(8, 24))
    assert [drawn.minimal for drawn in six] == ([False] * 16 + [True]) * 2


def test_a_puzzle_is_a_function_of_its_four_keys() -> None:
    first = puzzle_at(26, 6, "minimal", 3)
    assert puzzle_at(26, 6, "minimal", 3) == first
    others = [(27, "minimal", 3), (26, "minimal", 4), (26, "mixed", 3)]
    assert all(puzzle_at(seed, 6, name, index) != first for seed, name, index in others)
    both = [puzzle_at(26, 6, name, 16) for name in ("mixed", "minimal")]
    assert both[0].minimal
    assert both[0].solution != both[1].solution


@pytest.mark.parametrize("side", [4, 6, 9])
def test_parts(side: int) -> None:
    generator = numpy_generator(0, "parts", side)
    solution = full_grid(side, generator)
    assert geometry(side).is_solution(solution)
    minimal = minimal_puzzle(solution, generator)
    assert geometry(side).keeps_givens(minimal, solution)
    more = with_extra_clues(minimal, solution, 3, generator)
    assert more.count(0) == 3
    assert geometry(side).keeps_givens(minimal, solution)
    assert all(given in (0, now) for given, now in zip(minimal, more, strict=True))
    with pytest.raises(ValueError, match="fewer than 80"):
        with_extra_clues(minimal, solution, 80, generator)


def test_strata_that_are_not_there() -> None:
    for side, name in ((6, "guesses:0"), (9, "blanks:55"), (9, "blanks:0"), (4, "hard"), (9, "")):
        with pytest.raises(ValueError, match=f"{side} x {side} has the strata minimal, mixed"):
            strata(side, name)
