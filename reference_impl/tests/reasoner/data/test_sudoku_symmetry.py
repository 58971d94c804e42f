"""Symmetries keep the rules; keys do not see them, and see everything else that is known."""

from itertools import permutations

import numpy as np
import pytest
import torch

from reference_reasoner.engine.seeding import numpy_generator, torch_generator
from reference_reasoner.reasoner.data.sudoku_generator import full_grid, puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import geometry
from reference_reasoner.reasoner.data.sudoku_symmetry import (
    key,
    keys,
    random_symmetry,
    transform,
)


def cells_of(grids: list[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(grids), dtype=np.uint8).reshape(len(grids), -1)


@pytest.mark.parametrize("side", [4, 6, 9])
@pytest.mark.parametrize("stratum", ["minimal", "blanks:8"])
def test_keys_do_not_see_symmetries(side: int, stratum: str) -> None:
    for index in range(10):
        drawn = puzzle_at(11, side, stratum, index)
        puzzles, solutions = [drawn.puzzle], [drawn.solution]
        grids = torch.tensor([list(grid) for grid in (drawn.puzzle, drawn.solution)])
        for draw in range(10):
            moved = transform(grids, torch_generator(0, side, index, draw))
            puzzle, solution = (bytes(each.tolist()) for each in moved)
            assert geometry(side).is_solution(solution)
            assert geometry(side).keeps_givens(puzzle, solution)
            puzzles.append(puzzle)
            solutions.append(solution)
        assert len(set(puzzles)) > 1
        assert len(set(keys(cells_of(puzzles), side).tolist())) == 1
        if index < 2:
            assert len(set(keys(cells_of(solutions), side, solved=True).tolist())) == 1


def test_keys_tell_all_known_classes_apart() -> None:
    """36 minimal puzzles and 2 grids of 4 x 4; of the 49 grids of 6 x 6 keys hold 47 apart."""
    minimal = [puzzle_at(0, 4, "minimal", index).puzzle for index in range(1200)]
    assert len(set(keys(cells_of(minimal), 4).tolist())) == 36
    for side, draws, least, most in ((4, 40, 2, 2), (6, 1000, 40, 47)):
        solved = [full_grid(side, numpy_generator(0, "class", i)) for i in range(draws)]
        found = set(keys(cells_of(solved), side, solved=True).tolist())
        assert least <= len(found) <= most


@pytest.mark.parametrize("side", [6, 9])
def test_unrelated_puzzles_have_different_keys(side: int) -> None:
    puzzles = [puzzle_at(12, side, "minimal", index).puzzle for index in range(100)]
    assert len(set(keys(cells_of(puzzles), side).tolist())) == 100


@pytest.mark.parametrize("side", [4, 6, 9])
def test_one_digit_more_or_elsewhere_changes_the_key(side: int) -> None:
    drawn = puzzle_at(13, side, "minimal", 0)
    cells = [cell for cell, digit in enumerate(drawn.puzzle) if not digit]
    less = bytearray(drawn.puzzle)
    other = bytearray(drawn.puzzle)
    less[cells[0]] = drawn.solution[cells[0]]
    other[cells[0]] = drawn.solution[cells[0]] % side + 1
    assert len({key(drawn.puzzle), key(bytes(less)), key(bytes(other))}) == 3


def test_six_by_six_is_not_transposed() -> None:
    drawn = puzzle_at(14, 6, "minimal", 0).puzzle
    turned = bytes(np.frombuffer(drawn, np.uint8).reshape(6, 6).T.flatten())
    assert key(turned) != key(drawn)
    nine = puzzle_at(14, 9, "minimal", 0).puzzle
    assert key(bytes(np.frombuffer(nine, np.uint8).reshape(9, 9).T.flatten())) == key(nine)
    for draw in range(30):  # a row stays a row
        cells = random_symmetry(6, torch_generator(1, draw)).cells.reshape(6, 6)
        assert (cells // 6 == cells[:, :1] // 6).all()


def test_all_symmetries_come() -> None:
    found = {
        tuple(random_symmetry(4, torch_generator(2, draw)).cells.tolist()) for draw in range(1500)
    }
    assert len(found) == 2 * 8 * 8
    digits = {
        tuple(random_symmetry(4, torch_generator(2, draw)).digits.tolist()) for draw in range(300)
    }
    assert digits == {(0, *order) for order in permutations(range(1, 5))}


def test_keys_do_not_depend_on_their_neighbours() -> None:
    puzzles = [puzzle_at(15, 4, "blanks:7", index).puzzle for index in range(5)]
    together = keys(cells_of(puzzles * 1000), 4).tolist()  # more than one block
    assert together == [key(puzzle) for puzzle in puzzles] * 1000
    assert len(keys(np.zeros((0, 81), np.uint8), 9)) == 0
