"""Mazes as text: what is one, where its path runs, and which answers are right."""

import re
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest

from reference_reasoner.reasoner.data.maze_drawing import carve
from reference_reasoner.reasoner.data.maze_rules import (
    canonical,
    distances,
    is_solution,
    neighbours,
    parse_maze,
    shortest_path,
    symmetries,
    to_text,
    transformed,
)

CORRIDORS = ["#######", "#S#   #", "# # # #", "# # # #", "# # # #", "#   #G#", "#######"]
LOOP = ["#######", "#S    #", "# ### #", "# ### #", "# ### #", "#     #", "#######"]


def perfect_maze(seed: int, rooms: int = 4) -> str:
    random = Random(seed)
    text = list(carve(rooms, random))
    size = 2 * rooms + 1
    inside = [i for i in range(size**2) if i // size % 2 and i % size % 2]
    text[inside[0]], text[random.choice(inside[1:])] = "S", "G"
    return "".join(text)


def without_dead_ends(text: str, size: int) -> set[int]:
    """The path of a perfect maze: fill open cells with one way out until there are none."""
    open_cells = {i for i, character in enumerate(text) if character != "#"}
    ends = {text.index("S"), text.index("G")}
    while True:
        dead = {
            i
            for i in open_cells - ends
            if sum(i + step in open_cells for step in (-size, -1, 1, size)) < 2
        }
        if not dead:
            return open_cells
        open_cells -= dead


def test_the_path_is_what_filling_dead_ends_leaves() -> None:
    for seed in range(60):
        text = perfect_maze(seed)
        maze = parse_maze(to_text(text).split("\n"))
        assert set(maze.path) == without_dead_ends(text, maze.size)
        assert maze.moves == len(maze.path) - 1
        assert (text[maze.path[0]], text[maze.path[-1]]) == ("S", "G")
        assert all(second in neighbours(9)[first] for first, second in pairwise(maze.path))
        assert {i for i, each in enumerate(maze.solution) if each in "SGo"} == set(maze.path)
        assert maze.solution.replace("o", " ") == text == maze.text


def test_a_maze_drawn_by_hand() -> None:
    maze = parse_maze(CORRIDORS)
    assert maze.moves == 16
    assert to_text(maze.solution).split("\n") == [
        "#######", "#S#ooo#", "#o#o#o#", "#o#o#o#", "#o#o#o#", "#ooo#G#", "#######",
    ]  # fmt: skip
    assert distances(maze.text, maze.path[-1])[maze.path[0]] == 16


def test_neighbours_do_not_go_round_the_edge() -> None:
    assert neighbours(3)[2] == (1, 5)
    assert neighbours(3)[3] == (0, 4, 6)
    assert neighbours(3)[4] == (1, 3, 5, 7)


def test_shortest_paths_are_counted() -> None:
    assert shortest_path("".join(LOOP).replace("#     #", "#    G#"))[1] == 2
    path, ways = shortest_path("".join([*LOOP[:4], "# ###G#", *LOOP[5:]]))
    assert (len(path), ways) == (8, 1)
    assert shortest_path("######S#G######")[1] == 0
    # by rows and columns of an empty field: binomial(4, 2) ways
    assert shortest_path("######S  ##   ##  G######")[1] == 6


def test_spaces_at_the_end_of_a_line_may_be_missing_but_not_its_wall() -> None:
    assert parse_maze([line + "  " for line in CORRIDORS]).moves == 16
    with pytest.raises(ValueError, match="outer wall has a gap"):
        parse_maze([CORRIDORS[0], "#S#", *CORRIDORS[2:]])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "at least 3 lines, this has 0"),
        (["###", "#S#"], "at least 3 lines, this has 2"),
        (["###", "#S##", "###"], "line 2 has 4 characters; this maze has 3 lines"),
        (["####", "#SG#", "#x #", "####"], "line 3, character 2 is 'x'"),
        (["####", "#So#", "#G #", "####"], "line 2, character 3 is 'o'"),
        (["####", "#S #", "#  #", "####"], "one 'G', this has 0"),
        (["####", "#SS#", "# G#", "####"], "one 'S', this has 2"),
        (["# ##", "#SG#", "####", "####"], "outer wall has a gap"),
        (["####", "#SG ", "####", "####"], "outer wall has a gap"),
        (["####", " SG#", "####", "####"], "outer wall has a gap"),
        (["####", "#SG#", "####", "## #"], "outer wall has a gap"),
        (["#####", "#S#G#", "#####", "#####", "#####"], "the goal cannot be reached"),
        (["####", "#S #", "# G#", "####"], "can be reached by 2 shortest paths"),
    ],
)
def test_what_is_no_maze_is_refused(lines: Sequence[str], reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_maze(lines)


def test_only_the_shortest_path_is_a_solution() -> None:
    lines = [*LOOP[:4], "# ###G#", *LOOP[5:]]
    maze = parse_maze(lines)
    assert is_solution(maze.text, maze.solution)
    assert not is_solution(maze.text, maze.text)  # nothing marked
    everything = maze.text.replace(" ", "o")
    assert not is_solution(maze.text, everything)  # more than the path
    the_other_way = [
        "#######", "#S    #", "#o### #", "#o### #", "#o###G#", "#ooooo#", "#######",
    ]  # fmt: skip
    assert not is_solution(maze.text, "".join(the_other_way))  # a longer path
    assert not is_solution(maze.text, maze.solution[:-1])
    through_the_wall = list(maze.solution)
    through_the_wall[2 * 7 + 3] = "o"
    assert not is_solution(maze.text, "".join(through_the_wall))
    for cell in maze.path[1:-1]:
        broken = maze.solution[:cell] + " " + maze.solution[cell + 1 :]
        assert not is_solution(maze.text, broken)
    for stray in (i for i, each in enumerate(maze.solution) if each == " "):
        beside = maze.solution[:stray] + "o" + maze.solution[stray + 1 :]
        assert not is_solution(maze.text, beside)
    with_start_moved = maze.solution.replace("S", "o")
    assert not is_solution(maze.text, with_start_moved)


def test_either_of_two_shortest_paths_is_a_solution() -> None:
    field = "#####S ## G#####"
    assert is_solution(field, "#####So## G#####")
    assert is_solution(field, "#####S ##oG#####")
    assert not is_solution(field, "#####So##oG#####")


def test_the_symmetries_are_the_eight_of_the_square() -> None:
    found = symmetries(5)
    assert len(set(found)) == 8
    assert found[0] == tuple(range(25))
    assert all(sorted(each) == list(range(25)) for each in found)
    for symmetry in found:
        place = {old: new for new, old in enumerate(symmetry)}
        for cell, near in enumerate(neighbours(5)):
            assert {place[other] for other in near} == set(neighbours(5)[place[cell]])


def test_equal_mazes_have_one_canonical_form() -> None:
    for seed in range(20):
        text = perfect_maze(seed)
        exchanged = text.translate(str.maketrans("SG", "GS"))
        forms = {
            canonical(transformed(each, symmetry))
            for each in (text, exchanged)
            for symmetry in symmetries(9)
        }
        assert forms == {canonical(text)}
        assert shortest_path(canonical(text))[1] == 1
    assert len({canonical(perfect_maze(seed)) for seed in range(100)}) > 95
