"""Perfect mazes: trees of rooms, carved by a depth-first walk.

Rooms stand at odd rows and columns; a passage opens the wall between two of them. Any two rooms
are joined by one path, whose length in moves is even.
"""

from random import Random

from .maze_rules import (
    OPEN,
    WALL,
)


def carve(rooms: int, random: Random) -> str:
    """Carve a random perfect maze, as characters, of `rooms` x `rooms`, without start and goal.

    Depth-first: from the newest room go on to an unvisited neighbour, or back where there is
    none. Its corridors are long, and its paths longer than those of a tree drawn uniformly.
    """
    size = 2 * rooms + 1
    text = [WALL] * size**2
    first = random_room(rooms, random)
    text[first] = OPEN
    stack = [first]
    while stack:
        cell = stack[-1]
        row, column = divmod(cell, size)
        steps = [
            step
            for step, inside in (
                (-size, row > 1),
                (-1, column > 1),
                (1, column < size - 2),
                (size, row < size - 2),
            )
            if inside and text[cell + 2 * step] == WALL
        ]
        if not steps:
            stack.pop()
            continue
        step = steps[below(len(steps), random)]
        text[cell + step] = text[cell + 2 * step] = OPEN
        stack.append(cell + 2 * step)
    return "".join(text)


def random_room(rooms: int, random: Random) -> int:
    """Draw the cell of a maze's room, each as likely as another."""
    row, column = below(rooms, random), below(rooms, random)
    return (2 * row + 1) * (2 * rooms + 1) + 2 * column + 1


def below(end: int, random: Random) -> int:
    """Draw a whole number from 0 to `end` - 1, for carving a maze."""
    # random() alone is promised to stay the same in later versions of Python
    return int(random.random() * end)
