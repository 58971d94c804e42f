"""Mazes as text: reading, the shortest path, who is equal to whom, and whether an answer is right.

A maze has S rows of S characters: `#` is a wall, a space is open, `S` and `G` are the start and
the goal. It is solved by moves up, down, left and right; a solution marks the cells between
start and goal with `o`. A cell is the number row * S + column. Lines may lack spaces at their
end. Mazes for training are *perfect* (a tree of rooms), so that there is one path at all; a maze
that is read may have loops, but only one shortest path.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import isqrt
from typing import IO

from .puzzle_files import LONGEST_BLOCK, Given, blocks

WALL, OPEN, START, GOAL, PATH = "#", " ", "S", "G", "o"
ALPHABET = WALL + OPEN + START + GOAL + PATH
"""The characters of mazes and solutions; the token id of a character is 1 + its place here."""


@dataclass(frozen=True, kw_only=True)
class Maze:
    """A maze that can be solved in one shortest way; make it with `parse_maze`."""

    text: str
    """Its S * S characters, row by row."""
    path: tuple[int, ...]
    """The cells of the shortest path, start and goal among them."""

    @property
    def size(self) -> int:
        """S, the rows and the columns."""
        return isqrt(len(self.text))

    @property
    def moves(self) -> int:
        """Length of the shortest path in moves."""
        return len(self.path) - 1

    @property
    def solution(self) -> str:
        """The text with the path marked."""
        return mark(self.text, self.path)


@cache
def neighbours(size: int) -> tuple[tuple[int, ...], ...]:
    """List for each cell of a maze the cells above, left, right and below it."""
    return tuple(
        tuple(
            (row + down) * size + column + right
            for down, right in ((-1, 0), (0, -1), (0, 1), (1, 0))
            if 0 <= row + down < size and 0 <= column + right < size
        )
        for row in range(size)
        for column in range(size)
    )


def parse_maze(lines: Sequence[str]) -> Maze:
    """Parse a maze from its lines, and check that it can be solved in one shortest way.

    Raises ValueError, and says which line or what is wrong, for a form that is not square, a
    character that is no part of a maze, not exactly one start and goal, a gap in the outer wall,
    and a goal that cannot be reached or can be by several shortest paths.
    """
    size = len(lines)
    if size < 3:
        raise ValueError(f"a maze has at least 3 lines, this has {size}")
    rows = []
    for number, line in enumerate(lines, start=1):
        row = line.rstrip().ljust(size)
        if len(row) != size:
            raise ValueError(f"line {number} has {len(row)} characters; this maze has {size} lines")
        for place, character in enumerate(row, start=1):
            if character not in WALL + OPEN + START + GOAL:
                raise ValueError(
                    f"line {number}, character {place} is {character!r}; a maze is made of "
                    "'#', ' ', 'S' and 'G'"
                )
        rows.append(row)
    text = "".join(rows)
    for character in (START, GOAL):
        if text.count(character) != 1:
            raise ValueError(f"a maze has one {character!r}, this has {text.count(character)}")
    border = text[:size] + text[-size:] + text[::size] + text[size - 1 :: size]
    if set(border) != {WALL}:
        raise ValueError("the outer wall has a gap")
    path, ways = shortest_path(text)
    if ways != 1:
        found = "cannot be reached" if not ways else f"can be reached by {ways} shortest paths"
        raise ValueError(f"the goal {found}; a maze has one shortest path")
    return Maze(text=text, path=path)


def given_mazes(file: IO[bytes]) -> Iterator[Given]:
    """Read a file of mazes: each block of lines as a maze, or the reason why it is none."""
    for block in blocks(file):
        line = block[0].number
        if len(block) > LONGEST_BLOCK or not all(each.whole for each in block):
            yield Given(line=line, problem="its lines are too long or too many")
            continue
        try:
            maze = parse_maze([each.text for each in block])
        except ValueError as error:
            yield Given(line=line, problem=str(error))
        else:
            yield Given(line=line, puzzle=maze.text, size=maze.size)


def shortest_path(text: str) -> tuple[tuple[int, ...], int]:
    """(cells of a shortest path from start to goal, number of shortest paths); `((), 0)` for none.

    Breadth-first search. Start and goal are among the cells.
    """
    distance, ways, before = _search(text, text.index(START))
    goal = text.index(GOAL)
    if goal not in distance:
        return (), 0
    path = [goal]
    while path[-1] in before:
        path.append(before[path[-1]])
    return tuple(reversed(path)), ways[goal]


def distances(text: str, start: int) -> dict[int, int]:
    """{cell: moves from `start`} of the cells that can be reached."""
    return _search(text, start)[0]


def _search(text: str, start: int) -> tuple[dict[int, int], dict[int, int], dict[int, int]]:
    """Search a maze from its start: by cell distance, number of shortest ways, cell before."""
    near = neighbours(isqrt(len(text)))
    distance, ways, before = {start: 0}, {start: 1}, dict[int, int]()
    queue = [start]
    for cell in queue:  # grows while it is walked
        for other in near[cell]:
            if text[other] == WALL:
                continue
            if other not in distance:
                distance[other], ways[other], before[other] = distance[cell] + 1, 0, cell
                queue.append(other)
            if distance[other] == distance[cell] + 1:
                ways[other] += ways[cell]
    return distance, ways, before


def mark(text: str, path: Sequence[int]) -> str:
    """Mark the open cells of `path` in a maze's text."""
    cells = set(path)
    return "".join(
        PATH if i in cells and character == OPEN else character for i, character in enumerate(text)
    )


def is_solution(maze: str, answer: str) -> bool:
    """Whether `answer` is `maze` with nothing but a shortest path marked, whichever it is.

    The marked cells must lead from start to goal, and be as few as any path has.
    """
    if len(answer) != len(maze) or answer.replace(PATH, OPEN) != maze:
        return False
    walkable = answer.replace(OPEN, WALL)
    marked, ways = shortest_path(walkable)
    # a walk through all marked cells, as long as the shortest of the maze: nothing is left over
    return ways > 0 and len(marked) == answer.count(PATH) + 2 == len(shortest_path(maze)[0])


def to_text(cells: str) -> str:
    """Format a maze's S * S characters as S lines."""
    size = isqrt(len(cells))
    return "\n".join(cells[at : at + size] for at in range(0, len(cells), size))


@cache
def symmetries(size: int) -> tuple[tuple[int, ...], ...]:
    """The eight symmetries of a square maze: for each new cell the old one; first, identity."""
    found = []
    rows = [[row * size + column for column in range(size)] for row in range(size)]
    for _ in range(2):
        for _ in range(4):
            found.append(tuple(cell for row in rows for cell in row))
            rows = [list(row) for row in zip(*rows[::-1], strict=True)]  # a quarter turn
        rows = [row[::-1] for row in rows]
    return tuple(found)


def transformed(text: str, symmetry: Sequence[int]) -> str:
    """Turn or reflect a maze's text by one of the `symmetries` of its size."""
    return "".join([text[cell] for cell in symmetry])


def canonical(text: str) -> str:
    """The text that all mazes share that differ by a symmetry or by start and goal exchanged."""
    exchanged = text.translate(str.maketrans(START + GOAL, GOAL + START))
    return min(
        transformed(each, symmetry)
        for symmetry in symmetries(isqrt(len(text)))
        for each in (text, exchanged)
    )
