"""Files that people hand in, whatever is in them."""

import io

import pytest

from reference_reasoner.reasoner.data.maze_rules import given_mazes
from reference_reasoner.reasoner.data.puzzle_files import (
    LONGEST_BLOCK,
    LONGEST_LINE,
    blocks,
    lines,
)
from reference_reasoner.reasoner.data.sudoku import given_puzzles, solved_puzzles

MAZE = "#####\n#S  #\n### #\n#G  #\n#####"
EMPTY = "." * 16


def test_lines_are_numbered_and_cut() -> None:
    file = io.BytesIO(b"one\r\n\n" + b"x" * (3 * LONGEST_LINE) + b"\nlast \xff")
    found = list(lines(file))
    assert [line.number for line in found] == [1, 2, 3, 4]
    assert [line.whole for line in found] == [True, True, False, True]
    assert [len(line.text) for line in found] == [3, 0, LONGEST_LINE, 6]
    assert found[3].text == "last �"


@pytest.mark.parametrize("length", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_longest_line(length: int, end: bytes) -> None:
    found = list(lines(io.BytesIO(b"x" * length + end)))
    assert [line.number for line in found] == [1]
    assert found[0].whole == (length < LONGEST_LINE)


def test_a_file_of_one_endless_line_is_never_in_memory() -> None:
    class Endless(io.RawIOBase):
        left = 50_000

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size == LONGEST_LINE
            self.left -= 1
            return b"x" * LONGEST_LINE if self.left > 0 else b""

    assert [len(line.text) for line in lines(Endless())] == [LONGEST_LINE]  # type: ignore[arg-type]


def test_blocks_end_at_empty_lines() -> None:
    found = list(blocks(io.BytesIO(b"\n\na\nb\n  \nc\n\n\n")))
    assert [[line.text for line in block] for block in found] == [["a", "b"], ["c"]]
    assert [block[0].number for block in found] == [3, 6]
    (long,) = blocks(io.BytesIO(b"#\n" * 10_000))
    assert len(long) == LONGEST_BLOCK + 1


def test_mazes_stand_in_blocks() -> None:
    text = f"{MAZE}\n\n{'#' * 9000}\n\nno maze\n\n{MAZE}\n" + "\n" + "#\n" * 300
    found = list(given_mazes(io.BytesIO(text.encode())))
    assert [given.line for given in found] == [1, 7, 9, 11, 17]
    assert [given.size for given in found] == [5, 0, 0, 5, 0]
    assert found[0].puzzle == MAZE.replace("\n", "")
    assert "too long" in found[1].problem
    assert "at least 3 lines" in found[2].problem
    assert "too many" in found[4].problem


def test_puzzles_stand_in_lines() -> None:
    zeros = EMPTY.replace(".", "0")
    text = f"# comment\n  {EMPTY} more words\n\n{zeros}\n{'.' * 36}\n1,2\n{'.' * 9000}"
    found = list(given_puzzles(io.BytesIO(text.encode())))
    assert [given.line for given in found] == [2, 4, 5, 6, 7]
    assert [given.size for given in found] == [4, 4, 6, 0, 0]
    assert [given.puzzle for given in found[:2]] == [EMPTY, EMPTY]
    assert all(bool(given.problem) != bool(given.puzzle) for given in found)


def test_a_puzzle_is_scored_only_with_its_one_solution() -> None:
    text = f"{EMPTY}\n1.1.{EMPTY[4:]}\n.23.341221434.2."
    found, refused = solved_puzzles(list(given_puzzles(io.BytesIO(text.encode()))))
    assert [each.line for each in refused] == [1, 2]
    assert [each.problem for each in refused] == [
        "it has more than one solution",
        "it has no solution",
    ]
    (puzzle,) = found
    assert puzzle.solution == bytes(map(int, "1234341221434321"))
    assert not puzzle.minimal
    assert puzzle.guesses == 0
