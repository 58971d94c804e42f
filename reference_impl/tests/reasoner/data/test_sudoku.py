"""Sudoku puzzles: one solution each, by an independent solver; none in two splits; keyed draws."""

import functools
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.data.dataset import collate
from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.seeding import torch_generator
from reference_reasoner.reasoner.data.sudoku import (
    EASIEST,
    EMPTY_TOKEN,
    SudokuDataConfig,
    load_sudoku_splits,
    made_easier,
)
from reference_reasoner.reasoner.data.sudoku_generator import (
    Puzzle,
    is_minimal,
    puzzle_at,
    strata,
)
from reference_reasoner.reasoner.data.sudoku_rules import (
    geometry,
    geometry_of,
    parse_line,
    to_line,
)
from reference_reasoner.reasoner.data.sudoku_sets import (
    SHIPPED,
    SIZES,
    line_of,
    make_set,
    puzzle_of,
    read_puzzles,
    read_split,
    write_puzzles,
    write_sets,
)
from reference_reasoner.reasoner.data.sudoku_solver import solve
from reference_reasoner.reasoner.data.sudoku_symmetry import key, keys, transform

from .plain_sudoku import allowed, solutions

HARD = "4.....8.5.3..........7......2.....6.....8.4......1.......6.3.7.5..2.....1.4......"


@pytest.mark.parametrize("side", [4, 6, 9])
def test_the_rules_are_those_of_the_plain_solver(side: int) -> None:
    grid = puzzle_at(0, side, "minimal", 0).solution
    rules = geometry(side)
    assert rules.is_solution(grid)
    for cell in range(side * side):
        for digit in range(1, side + 1):
            clear = all(grid[peer] != digit for peer in rules.peers[cell])
            assert clear == allowed(bytearray(grid), cell, digit, side)
    broken = bytearray(grid)
    broken[0], broken[1] = broken[1], broken[0]
    assert not rules.is_solution(bytes(broken))
    assert rules.keeps_givens(bytes([grid[0]] + [0] * (side * side - 1)), grid)
    assert not rules.keeps_givens(bytes([broken[0]] + [0] * (side * side - 1)), grid)


@pytest.mark.parametrize(("side", "count"), [(4, 20), (6, 24), (9, 4)])
def test_fresh_puzzles_have_one_solution(side: int, count: int) -> None:
    for index in range(count):
        puzzle = puzzle_at(7, side, "mixed", index)
        assert solutions(puzzle.puzzle) == [puzzle.solution]
        assert puzzle.minimal == (
            strata(side, "mixed")[index % len(strata(side, "mixed"))].blanks is None
        )
        if puzzle.minimal:
            assert is_minimal(puzzle.puzzle)
            for cell, digit in enumerate(puzzle.puzzle):
                if digit and side < 9:
                    less = puzzle.puzzle[:cell] + b"\0" + puzzle.puzzle[cell + 1 :]
                    assert len(solutions(less)) == 2


def test_a_puzzle_is_a_function_of_its_index() -> None:
    assert puzzle_at(3, 6, "mixed", 5) == puzzle_at(3, 6, "mixed", 5)
    assert len({puzzle_at(3, 6, "mixed", index).puzzle for index in range(10)}) == 10
    assert puzzle_at(3, 6, "mixed", 5) != puzzle_at(4, 6, "mixed", 5)


def test_the_solver_counts_solutions_and_guesses() -> None:
    hard = parse_line(HARD)
    found = solve(hard)
    assert (found.solutions, found.solution) == (1, solutions(hard)[0])
    assert found.guesses > 50
    assert solve(bytes(81)).solutions == 2
    assert solve(parse_line("11" + "." * 14)).solutions == 0
    easy = puzzle_at(0, 9, "guesses:0", 0)
    assert (easy.guesses, solve(easy.puzzle).guesses) == (0, 0)
    assert puzzle_at(0, 9, "guesses:5+", 0).guesses >= 5


@pytest.mark.parametrize("side", [4, 6, 9])
def test_a_symmetry_keeps_puzzle_solution_and_key(side: int) -> None:
    puzzle = puzzle_at(1, side, "minimal", 0)
    pair = torch.tensor([list(puzzle.puzzle), list(puzzle.solution)])
    seen = set()
    for draw in range(6):
        grid, solution = transform(pair, torch_generator(0, "symmetry", draw))
        moved, solved = bytes(grid.tolist()), bytes(solution.tolist())
        assert geometry_of(moved).is_solution(solved)
        assert solve(moved).solution == solved
        assert key(moved) == key(puzzle.puzzle)
        assert key(solved, solved=True) == key(puzzle.solution, solved=True)
        seen.add(moved)
    assert len(seen) > 1
    assert key(puzzle_at(1, side, "minimal", 1).puzzle) != key(puzzle.puzzle)


@pytest.mark.parametrize("side", [4, 6, 9])
def test_no_shipped_puzzle_is_in_two_splits(side: int) -> None:
    splits = {split: shipped(side, split) for split in SIZES[side]}
    assert {split: len(puzzles) for split, puzzles in splits.items()} == dict(SIZES[side])
    grids = [list(puzzle.puzzle) for puzzles in splits.values() for puzzle in puzzles]
    marks = keys(np.array(grids, dtype=np.uint8), side)
    assert len(np.unique(marks)) == len(marks)


def test_shipped_puzzles_have_one_solution() -> None:
    for side, count in ((4, 500), (6, 200), (9, 30)):
        for puzzle in read_split(SHIPPED, side, "test")[:count]:
            found = solve(puzzle.puzzle)
            assert (found.solutions, found.solution) == (1, puzzle.solution)
            assert found.guesses == puzzle.guesses
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2_000_000


def test_blanks_of_the_test_set_are_spread() -> None:
    puzzles = read_split(SHIPPED, 6, "test")
    counts = [sum(p.blanks == blanks and not p.minimal for p in puzzles) for blanks in range(8, 24)]
    assert min(counts) == max(counts) == 120
    assert sum(puzzle.minimal for puzzle in puzzles) == 120


def test_a_set_is_made_again_as_it_was(tmp_path: Path) -> None:
    sizes = {"test": 20, "validation": 5, "train": 20}
    first, second = make_set(6, sizes), make_set(6, sizes)
    assert first == second
    write_sets(tmp_path / "puzzles", {6: sizes})
    assert read_split(tmp_path / "puzzles", 6, "train") == [
        replace(puzzle, index=index) for index, puzzle in enumerate(first["train"])
    ]
    shipped = [line_of(puzzle) for puzzle in read_split(SHIPPED, 6, "test")[:20]]
    assert [line_of(puzzle) for puzzle in first["test"]] == shipped


def test_a_changed_or_missing_set_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "puzzles"
    shutil.copytree(SHIPPED, folder)
    path = folder / "4x4-train.txt"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    with pytest.raises((RefusedInputError, RunFailedError), match=r"4x4-train\.txt"):
        load_sudoku_splits(SudokuDataConfig(side=4, folder=str(folder)))
    with pytest.raises(RefusedInputError, match="holds no set of 4 x 4"):
        load_sudoku_splits(SudokuDataConfig(side=4, folder=str(tmp_path / "nowhere")))
    with pytest.raises(RefusedInputError, match="cannot be read"):
        read_puzzles(tmp_path / "nowhere.txt")
    path.write_text("1234 x\n")
    with pytest.raises(RefusedInputError, match="line 1"):
        read_puzzles(path)


def a_set(folder: Path, side: int, splits: Mapping[str, Sequence[Puzzle]]) -> SudokuDataConfig:
    """A set of one's own in `folder`."""
    folder.mkdir()
    sums = {}
    for split, puzzles in splits.items():
        name = f"{side}x{side}-{split}.txt"
        sums[name] = write_puzzles(folder / name, puzzles)
    (folder / "manifest.json").write_text(json.dumps({"sha256": sums}))
    return SudokuDataConfig(side=side, folder=str(folder))


@functools.cache
def shipped(side: int, split: str) -> list[Puzzle]:
    """Read once for all tests."""
    return read_split(SHIPPED, side, split)


def turned_by(puzzle: Puzzle, draw: int) -> Puzzle:
    """A symmetry of a puzzle."""
    pair = torch.tensor([list(puzzle.puzzle), list(puzzle.solution)])
    grid, solution = transform(pair, torch_generator(0, "turned", draw))
    return replace(puzzle, puzzle=bytes(grid.tolist()), solution=bytes(solution.tolist()))


@pytest.mark.parametrize("side", [4, 6, 9])
@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_puzzle_in_two_splits_is_refused(
    tmp_path: Path, side: int, split: str, turned: bool
) -> None:
    splits = {name: shipped(side, name)[:30] for name in SIZES[side]}
    own = a_set(tmp_path / "apart", side, splits)
    assert len(load_sudoku_splits(own).train) == 30
    for draw in range(4 if turned else 1):
        again = turned_by(splits["train"][7], draw) if turned else splits["train"][7]
        wrong = {**splits, split: [*splits[split][:4], again, *splits[split][5:]]}
        folder = tmp_path / f"shared-{draw}"
        with pytest.raises(RefusedInputError) as refused:
            load_sudoku_splits(a_set(folder, side, wrong))
        said = str(refused.value)
        assert said.startswith(f"{folder / f'{side}x{side}-{split}.txt'}, line 5: ")
        assert f"is line 8 of {side}x{side}-train.txt, " in said
        assert "`generate --exclude`" in said


def test_a_set_of_another_side_or_of_nothing_is_refused(tmp_path: Path) -> None:
    splits = {split: read_split(SHIPPED, 4, split)[:3] for split in SIZES[4]}
    six = read_split(SHIPPED, 6, "test")[0]
    mixed = a_set(tmp_path / "mixed", 4, {**splits, "test": [*splits["test"], six]})
    with pytest.raises(RefusedInputError, match=r"4x4-test\.txt must hold 4 x 4 .* line 4 is none"):
        load_sudoku_splits(mixed)
    with pytest.raises(RefusedInputError, match=r"4x4-test\.txt .* there is none in it: make it"):
        load_sudoku_splits(a_set(tmp_path / "empty", 4, {**splits, "test": []}))


def test_a_line_that_does_not_solve_its_puzzle_is_none() -> None:
    puzzle = puzzle_at(0, 4, "minimal", 0)
    line = line_of(puzzle)
    assert puzzle_of(line) == puzzle
    wrong = line.replace(to_line(puzzle.solution), to_line(puzzle.solution)[::-1])
    with pytest.raises(ValueError, match="does not solve"):
        puzzle_of(wrong)


def test_examples_are_tokens_and_training_sees_symmetries() -> None:
    splits = load_sudoku_splits(SudokuDataConfig(side=6))
    plain = splits.train.example(3, None)
    assert plain["tokens"].shape == plain["labels"].shape == (36,)
    given = plain["tokens"] > 1
    assert torch.equal(plain["tokens"][given], plain["labels"][given])
    assert set(plain["labels"].tolist()) == {2, 3, 4, 5, 6, 7}
    moved = splits.train.example(3, torch_generator(0, "augment", 0, 3))
    again = splits.train.example(3, torch_generator(0, "augment", 0, 3))
    assert torch.equal(moved["tokens"], again["tokens"])
    assert not torch.equal(moved["tokens"], plain["tokens"])
    assert geometry(6).is_solution(bytes((moved["labels"] - 1).tolist()))
    still = load_sudoku_splits(SudokuDataConfig(side=6, augment=False))
    assert torch.equal(still.train.example(3, torch_generator(0))["tokens"], plain["tokens"])
    assert still.fingerprint != splits.fingerprint
    ids = [len(splits.train), len(splits.train) + len(splits.validation)]
    assert int(splits.validation.example(0, None)["example_id"]) == ids[0]
    assert int(splits.test.example(0, None)["example_id"]) == ids[1]


def test_the_manifest_says_how_many_solutions_are_shared() -> None:
    facts = json.loads((SHIPPED / "manifest.json").read_text())
    overlap = facts["share_of_test_puzzles_with_a_training_solution_up_to_symmetry"]
    assert set(overlap) == {"4x4", "6x6", "9x9"}
    assert overlap["9x9"] == 0


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="side must be 4, 6 or 9, got 5"):
        SudokuDataConfig(side=5)
    with pytest.raises(ValueError, match="a puzzle has 81, 36, 16 characters"):
        parse_line("12345")
    with pytest.raises(ValueError, match="strata"):
        strata(6, "guesses:0")


def test_a_curriculum_fills_in_ever_fewer_cells() -> None:
    config = SudokuDataConfig(side=6, curriculum=0.5)
    shares = [config.filled_in(step, 100) for step in range(100)]
    assert shares[0] == EASIEST
    assert shares[25] == EASIEST / 2
    assert all(later < sooner for sooner, later in itertools.pairwise(shares[:51]))
    assert set(shares[50:]) == {0.0}
    assert SudokuDataConfig(side=6).filled_in(0, 100) == 0.0
    with pytest.raises(ValueError, match=r"data.curriculum must be in \[0, 1\], got 1.5"):
        SudokuDataConfig(side=6, curriculum=1.5)


def test_an_easier_puzzle_is_the_same_puzzle() -> None:
    puzzles = load_sudoku_splits(SudokuDataConfig(side=6)).train
    batch = collate([puzzles.example(index, None) for index in range(200)])
    easier = made_easier(batch, 0.5, torch.Generator().manual_seed(0))
    empty = batch["tokens"] == EMPTY_TOKEN
    filled = empty & (easier["tokens"] != EMPTY_TOKEN)
    assert torch.equal(easier["tokens"][~empty], batch["tokens"][~empty])
    assert torch.equal(easier["tokens"][filled], batch["labels"][filled])
    assert torch.equal(easier["labels"], batch["labels"])
    assert float(filled.sum() / empty.sum()) == pytest.approx(0.5, abs=0.03)
