"""Mazes: each has one path, lies in one split for good, and is fresh in training."""

from collections import Counter
from dataclasses import fields, replace
from random import Random

import pytest
import torch

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.data.dataset import Batch
from reference_reasoner.engine.data.loader import evaluation_batches, training_batches
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.seeding import torch_generator
from reference_reasoner.reasoner.data import mazes
from reference_reasoner.reasoner.data.maze_drawing import (
    below,
    carve,
    random_room,
)
from reference_reasoner.reasoner.data.maze_rules import (
    canonical,
    distances,
    is_solution,
    symmetries,
    transformed,
)
from reference_reasoner.reasoner.data.mazes import (
    PADDING,
    VOCABULARY,
    MazeDataConfig,
    Mazes,
    characters_of,
    draw_maze,
    load_maze_splits,
    split_of,
    tokens_of,
)

SMALL = MazeDataConfig(size=7, train_examples=20, validation_examples=9, test_examples=8)


@pytest.mark.parametrize("rooms", [1, 2, 3, 5, 8])
def test_a_carved_maze_is_a_tree_of_all_rooms(rooms: int) -> None:
    size = 2 * rooms + 1
    for seed in range(10):
        text = carve(rooms, Random(seed))
        assert len(text) == size**2
        at = {divmod(i, size) for i, character in enumerate(text) if character == " "}
        is_room = {(row, column) for row, column in at if row % 2 and column % 2}
        assert len(is_room) == rooms**2
        assert all(row % 2 or column % 2 for row, column in at)
        assert all(0 < row < size - 1 and 0 < column < size - 1 for row, column in at)
        # connected, and with one passage fewer than rooms: a tree
        assert len(distances(text, size + 1)) == len(at)
        assert len(at) - len(is_room) == rooms**2 - 1


def test_every_room_and_number_comes_up() -> None:
    random = Random(0)
    rooms = Counter(random_room(3, random) for _ in range(900))
    assert sorted(rooms) == [8, 10, 12, 22, 24, 26, 36, 38, 40]
    # 8 degrees of freedom: above 26.1 once in a thousand seeds
    assert sum((count - 100) ** 2 / 100 for count in rooms.values()) < 26.1
    assert {below(3, random) for _ in range(60)} == {0, 1, 2}


def test_every_tree_of_four_rooms_is_carved() -> None:
    assert len({carve(2, Random(seed)) for seed in range(80)}) == 4


def test_an_example_is_a_maze_and_its_solution() -> None:
    part = Mazes(config=SMALL, split="test")
    for i in range(8):
        example, maze = part.example(i, None), part.maze(i)
        assert example["tokens"].shape == example["labels"].shape == (49,)
        assert example["tokens"].dtype == example["labels"].dtype == torch.int64
        puzzle, solution = (characters_of(example[k].tolist()) for k in ("tokens", "labels"))
        assert (puzzle, solution) == (maze.text, maze.solution)
        assert is_solution(puzzle, solution)
        assert PADDING not in example["tokens"]
        assert int(example["labels"].max()) == VOCABULARY - 1


def test_token_ids_and_characters_go_both_ways() -> None:
    assert tokens_of("# SGo").tolist() == [1, 2, 3, 4, 5]
    assert characters_of([0, 1, 2, 3, 4, 5]) == "?# SGo"


@pytest.mark.parametrize(("least", "most"), [(2, 2), (6, 10), (5, 7), (14, 0)])
def test_paths_are_as_long_as_asked(least: int, most: int) -> None:
    config = replace(SMALL, least_path=least, most_path=most)
    random = Random(1)
    moves = {draw_maze(config, "train", random).moves for _ in range(80)}
    top = most or 16
    assert moves <= set(range(least + least % 2, top + 1, 2))
    assert most == 0 or moves == set(range(least + least % 2, top + 1, 2))


def test_a_split_without_a_maze_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mazes, "MOST_DRAWS", 20)
    longest = replace(SMALL, size=11, least_path=48)
    with pytest.raises(RefusedInputError, match=r"20 draws .* no train maze of size 11 .* 48 to"):
        load_maze_splits(longest)


def test_a_maze_belongs_to_one_split_however_it_is_turned() -> None:
    shares: Counter[str] = Counter()
    random = Random(2)
    for split in ("train", "validation", "test"):
        for _ in range(25):
            text = draw_maze(SMALL, split, random).text
            exchanged = text.translate(str.maketrans("SG", "GS"))
            turned = [transformed(text, symmetry) for symmetry in symmetries(7)]
            turned += [transformed(exchanged, symmetry) for symmetry in symmetries(7)]
            assert {split_of(each) for each in turned} == {split}
    for seed in range(1000):
        random = Random(seed)
        text = carve(4, random)
        shares[split_of(text[:10] + "S" + text[11:70] + "G" + text[71:])] += 1
    # a fifth each; walls repeat among the draws, which widens the spread
    assert 130 < shares["validation"] < 270
    assert 130 < shares["test"] < 270


def test_no_maze_of_an_evaluated_split_is_trained_on() -> None:
    splits = load_maze_splits(
        replace(SMALL, train_examples=600, validation_examples=150, test_examples=150)
    )
    seen = {
        name: {
            canonical(characters_of(part.example(i, generator)["tokens"].tolist()))
            for i in range(len(part))
            for generator in ([torch_generator(0, "augment", 0, i)] if name == "train" else [None])
        }
        for name, part in (
            ("train", splits.train), ("validation", splits.validation), ("test", splits.test),
        )
    }  # fmt: skip
    # there are so few of this size that other splits by chance would meet
    assert len(seen["train"]) > 50
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["validation"]
    assert not seen["validation"] & seen["test"]


def test_mazes_are_drawn_in_all_positions() -> None:
    config = replace(SMALL, least_path=16)
    random = Random(3)
    turned: dict[str, set[str]] = {}
    for _ in range(400):
        text = draw_maze(config, "train", random).text
        turned.setdefault(canonical(text), set()).add(text)
    assert max(len(forms) for forms in turned.values()) >= 12  # of sixteen


def test_the_same_generator_gives_the_same_example() -> None:
    part = Mazes(config=SMALL, split="train")
    one, other = (part.example(3, torch_generator(1, "augment", 0, 3)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    next_epoch = part.example(3, torch_generator(1, "augment", 1, 3))
    assert not torch.equal(one["tokens"], next_epoch["tokens"])
    # the run's seed draws it, not the data's
    seeded = Mazes(config=replace(SMALL, seed=7), split="train")
    again = seeded.example(3, torch_generator(1, "augment", 0, 3))
    assert torch.equal(again["tokens"], one["tokens"])


def test_every_training_step_is_fresh() -> None:
    config = replace(SMALL, size=9)
    batches = list(
        training_batches(
            Mazes(config=config, split="train"),
            batch_size=20, seed=5, first_step=1, last_step=3, workers=0,
        )
    )  # fmt: skip
    drawn = {tuple(row) for batch in batches for row in batch["tokens"].tolist()}
    assert len(drawn) == 60
    assert all(sorted(batch["example_id"].tolist()) == list(range(20)) for batch in batches)


def test_evaluation_does_not_depend_on_the_order() -> None:
    part = Mazes(config=SMALL, split="test")
    state = torch.get_rng_state()
    backwards = [part.example(i, None)["tokens"] for i in reversed(range(len(part)))]
    (batch,) = evaluation_batches(part, 100)
    assert torch.equal(batch["tokens"], torch.stack(backwards[::-1]))
    assert batch["example_id"].tolist() == list(range(29, 37))
    assert torch.equal(torch.get_rng_state(), state)
    other_seed = Mazes(config=replace(SMALL, seed=1), split="test")
    assert not torch.equal(other_seed.example(0, None)["tokens"], backwards[-1])


def test_an_index_beyond_the_split_is_refused() -> None:
    part = Mazes(config=SMALL, split="test")
    for index in (-1, 8):
        with pytest.raises(IndexError, match=f"test split has 8 examples, no number {index}"):
            part.example(index, None)


def test_a_config_that_cannot_be_used_is_refused() -> None:
    wrong = {
        "size": [5, 8, -9],
        "least_path": [1, 17],
        "most_path": [-1, 3],
        "train_examples": [0],
        "validation_examples": [0],
        "test_examples": [0],
        "seed": [-1],
    }
    assert set(wrong) == {field.name for field in fields(MazeDataConfig)}
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ConfigError, match=rf"data\.{name} must .* got {value}"):
                replace(SMALL, **{name: value})
    with pytest.raises(ConfigError, match=r"data\.most_path must be 0 or at least 6"):
        replace(SMALL, least_path=5, most_path=5)
    assert (replace(SMALL, least_path=16).rooms, SMALL.cells) == (3, 49)


def test_the_fingerprint_follows_every_field() -> None:
    changed = {
        "size": 9,
        "least_path": 6,
        "most_path": 12,
        "train_examples": 21,
        "validation_examples": 10,
        "test_examples": 9,
        "seed": 1,
    }
    assert set(changed) == {field.name for field in fields(MazeDataConfig)}
    configs = [SMALL, *(replace(SMALL, **{name: value}) for name, value in changed.items())]
    prints = [load_maze_splits(config).fingerprint for config in configs]
    assert len(set(prints)) == len(configs)
    assert load_maze_splits(replace(SMALL)).fingerprint == prints[0]


def test_the_fingerprint_follows_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_maze_splits(SMALL).fingerprint
    drawn = Mazes.example

    def another(self: Mazes, index: int, generator: torch.Generator | None) -> Batch:
        return drawn(self, index, generator or torch_generator(0, "other", index))

    monkeypatch.setattr(Mazes, "example", another)
    assert load_maze_splits(SMALL).fingerprint != before
