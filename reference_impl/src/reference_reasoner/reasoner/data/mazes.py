"""Mazes: find the shortest path. Drawn, not stored; no test maze is ever trained on.

Every maze is perfect (`maze_drawing`) and its start and goal are rooms, so the path between them
is the only one. T = size * size tokens, one a character.

A hash of what a maze is up to symmetry (the square's eight, and start and goal exchanged) says
which split it belongs to, and a draw for another split is drawn again. So a test maze is never
equal to one of training or validation, not even turned, though training mazes are fresh in each
epoch and nobody keeps a list. Walls alone may recur, with another start or goal: at size 9 there
are 100,352 trees of rooms in all. Within a split a maze may come twice.

Token ids: 0 padding (in no example; for a model that needs one), then the `ALPHABET`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from random import Random
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...engine.config.fields import require
from ...engine.data.dataset import Batch, Splits
from ...engine.data.splits import SPLITS, sha256_of_arrays, split_fingerprint
from ...engine.errors import RefusedInputError
from ...engine.seeding import derive
from .maze_drawing import (
    below,
    carve,
    random_room,
)
from .maze_rules import (
    ALPHABET,
    GOAL,
    START,
    Maze,
    canonical,
    distances,
    parse_maze,
    symmetries,
    to_text,
    transformed,
)

PADDING = 0
VOCABULARY = 1 + len(ALPHABET)
"""Number of token ids, padding among them."""
BUCKETS = 5
"""Shares of all mazes: one is validation's, one the test's, the rest training's."""
MOST_DRAWS = 10_000
"""Draws after which the config is thought to leave a split no maze."""

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class MazeDataConfig:
    """Which mazes."""

    size: int = 9
    """S, rows and columns in characters, walls included; odd."""
    least_path: int = 4
    """Fewest moves from start to goal; 2 is neighbouring rooms, which need no search."""
    most_path: int = 0
    """Most moves from start to goal; 0 sets no limit."""
    train_examples: int = 100_000
    """Examples of an epoch, which draws all of them anew."""
    validation_examples: int = 512
    """Examples that decide what is best; always the same."""
    test_examples: int = 512
    """Examples looked at once, at the end; always the same."""
    seed: int = 0
    """Key of validation and test; not the run's seed, which draws the training examples."""

    def __post_init__(self) -> None:
        require(
            self.size >= 7 and self.size % 2 == 1,
            f"data.size must be odd and at least 7, got {self.size}",
        )
        positive = dict.fromkeys((f"{split}_examples" for split in SPLITS), 1)
        for name, lowest in (positive | {"least_path": 2, "most_path": 0, "seed": 0}).items():
            value = getattr(self, name)
            require(value >= lowest, f"data.{name} must be at least {lowest}, got {value}")
        longest = 2 * (self.rooms**2 - 1)
        require(
            self.least_path <= longest,
            f"data.least_path must be at most {longest} at data.size {self.size}, "
            f"got {self.least_path}",
        )
        even = self.least_path + self.least_path % 2  # a path between rooms has an even length
        require(
            not self.most_path or self.most_path >= even,
            f"data.most_path must be 0 or at least {even}, the shortest even path from "
            f"data.least_path, got {self.most_path}",
        )

    @property
    def rooms(self) -> int:
        """Rooms in a row."""
        return self.size // 2

    @property
    def cells(self) -> int:
        """T, the tokens of a maze."""
        return self.size**2

    def allows(self, moves: int) -> bool:
        """Whether a path of so many moves may be asked for."""
        return self.least_path <= moves and (not self.most_path or moves <= self.most_path)


def draw_maze(config: MazeDataConfig, split: Split, random: Random) -> Maze:
    """A maze of this split with a path that the config allows, in any of its eight positions.

    Raises RefusedInputError where MOST_DRAWS draws find none.
    """
    turns = symmetries(config.size)
    for _ in range(MOST_DRAWS):
        walls = carve(config.rooms, random)
        start = random_room(config.rooms, random)
        # passages have odd distances from a room
        goals = [
            cell
            for cell, moves in distances(walls, start).items()
            if moves % 2 == 0 and config.allows(moves)
        ]
        if not goals:
            continue
        characters = list(walls)
        characters[start], characters[goals[below(len(goals), random)]] = START, GOAL
        text = transformed("".join(characters), turns[below(len(turns), random)])
        if split_of(text) == split:
            return parse_maze(to_text(text).split("\n"))
    limit = f"{config.least_path} to {config.most_path or 'any number of'}"
    raise RefusedInputError(
        f"{MOST_DRAWS:,} draws found no {split} maze of size {config.size} with a path of {limit} "
        "moves: allow more path lengths (data.least_path, data.most_path)"
    )


def split_of(text: str) -> Split:
    """The split that a maze belongs to, whatever was drawn so far and whoever asks."""
    bucket = hashlib.blake2b(canonical(text).encode(), digest_size=8).digest()
    place = int.from_bytes(bucket, "big") % BUCKETS
    return "validation" if place == 0 else "test" if place == 1 else "train"


def tokens_of(text: str) -> Tensor:
    """Encode a maze's or solution's characters as token ids, int64 [T]."""
    return torch.tensor([1 + ALPHABET.index(character) for character in text])


def characters_of(tokens: Iterable[int]) -> str:
    """Decode token ids to a maze's characters; `?` for padding, which stands for no character."""
    return "".join(("?" + ALPHABET)[token] for token in tokens)


@dataclass(frozen=True, kw_only=True)
class Mazes:
    """One split of mazes that are drawn at random.

    An example: `tokens` and `labels` int64 [T], `example_id` int64.

    The labels are the solution, all cells of it. Without a generator example i is a function of
    (seed, split, i) alone; with one it is drawn from that.
    """

    config: MazeDataConfig
    split: Split

    def __len__(self) -> int:
        examples: int = getattr(self.config, f"{self.split}_examples")
        return examples

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`, drawn from the `generator` if there is one.

        Raises IndexError for an index that the split does not have.
        """
        return _example(self.first_id + index, self.maze(index, generator))

    def maze(self, index: int, generator: torch.Generator | None = None) -> Maze:
        """The maze of example `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"the {self.split} split has {len(self)} examples, no number {index}")
        seed = derive(self.config.seed, "mazes", self.split, index)
        if generator is not None:
            seed = int(torch.randint(2**62, (), generator=generator))
        return draw_maze(self.config, self.split, Random(seed))

    @property
    def first_id(self) -> int:
        """`example_id` of example 0; the ids of the splits follow one another."""
        before = SPLITS[: SPLITS.index(self.split)]
        return sum(getattr(self.config, f"{split}_examples") for split in before)


@dataclass(frozen=True)
class GivenMazes:
    """Mazes that somebody handed in; examples as those of `Mazes`, numbered from 0."""

    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Maze `index` as it stands."""
        maze = parse_maze(to_text(self.texts[index]).split("\n"))
        return _example(index, maze)


def _example(number: int, maze: Maze) -> Batch:
    return {
        "example_id": torch.tensor(number),
        "tokens": tokens_of(maze.text),
        "labels": tokens_of(maze.solution),
    }


def load_maze_splits(config: MazeDataConfig) -> Splits:
    """Make the three splits of mazes; nothing is downloaded or stored.

    Raises RefusedInputError where the config leaves a split without a maze.
    """
    train, validation, test = (Mazes(config=config, split=split) for split in get_args(Split))
    # one example of each stands for the code that draws them: change it, and the data is other
    drawn = {part.split: part.example(0, None)["labels"] for part in (train, validation, test)}
    data_sha256 = sha256_of_arrays({split: labels.numpy() for split, labels in drawn.items()})
    # first id and number of examples are the whole split
    indices: dict[str, NDArray[np.int64]] = {
        part.split: np.array([part.first_id, len(part)]) for part in (train, validation, test)
    }
    return Splits(
        train=train,
        validation=validation,
        test=test,
        fingerprint=split_fingerprint(data_sha256, indices, asdict(config)),
    )
