"""Recall: the right value is asked for, far enough away, and every example is a fresh one."""

from collections import Counter
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.data.dataset import Batch, collate
from reference_reasoner.engine.data.loader import evaluation_batches, training_batches
from reference_reasoner.engine.seeding import torch_generator
from reference_reasoner.reasoner.data.labels import IGNORED
from reference_reasoner.reasoner.data.recall import (
    PADDING,
    Recall,
    RecallDataConfig,
    load_recall_splits,
    with_gap,
)

SMALL = RecallDataConfig(
    pairs=4, keys=6, values=5, gap=7, train_examples=20, validation_examples=9, test_examples=8
)
NEEDLE = replace(SMALL, kind="needle", haystack=10)


@st.composite
def configs(draw: st.DrawFn) -> RecallDataConfig:
    keys = draw(st.integers(1, 12))
    return RecallDataConfig(
        kind=draw(st.sampled_from(["pairs", "needle"])),
        pairs=draw(st.integers(1, keys)),
        keys=keys,
        values=draw(st.integers(2, 12)),
        fillers=draw(st.integers(1, 5)),
        gap=draw(st.integers(0, 20)),
        haystack=draw(st.integers(0, 20)),
        seed=draw(st.integers(0, 1000)),
    )


def kinds_of(config: RecallDataConfig, tokens: list[int]) -> str:
    """One letter a token: p padding, k key, v value, f filler."""
    letters = "p" + "k" * config.keys + "v" * config.values + "f" * config.fillers
    assert len(letters) == config.vocabulary
    return "".join(letters[token] for token in tokens)


def queried(example: Batch) -> list[tuple[int, int, int, int]]:
    """(place of the value, place of the query, value there, label), read from the tokens alone."""
    tokens, labels = example["tokens"].tolist(), example["labels"].tolist()
    found = []
    for place, label in enumerate(labels):
        if label != IGNORED:
            value_place = tokens.index(tokens[place]) + 1
            found.append((value_place, place, tokens[value_place], label))
    return found


@settings(max_examples=150, deadline=None)
@given(configs(), st.integers(0, 500))
def test_an_example_is_laid_out_as_documented(config: RecallDataConfig, index: int) -> None:
    example = Recall(config=config, split="validation").example(index, None)
    tokens, labels = example["tokens"], example["labels"]
    assert tokens.dtype == labels.dtype == example["example_id"].dtype == torch.int64
    assert tokens.shape == labels.shape == (config.length,)
    kinds = kinds_of(config, tokens.tolist())
    if config.kind == "pairs":
        gap = "f" * config.gap
        assert kinds == "kv" * config.pairs + gap + "k" * config.pairs
    else:
        before = kinds.index("kv")
        assert before <= config.haystack
        after = config.haystack - before + config.gap
        assert kinds == "f" * before + "kv" + "f" * after + "k"
    asks = queried(example)
    assert len(asks) == config.queries
    assert [place for _, place, _, _ in asks] == list(
        range(config.length - config.queries, config.length)
    )
    for value_place, place, value, label in asks:
        assert value == label
        assert place - value_place >= config.least_distance
    keys = tokens[[place for _, place, _, _ in asks]].tolist()
    written = [t for t, kind in zip(tokens.tolist(), kinds, strict=True) if kind == "k"]
    assert Counter(written) == dict.fromkeys(keys, 2)  # each once with its value, once as a query


@pytest.mark.parametrize("config", [SMALL, NEEDLE], ids=lambda config: config.kind)
def test_the_least_distance_is_reached_and_never_undercut(config: RecallDataConfig) -> None:
    part = Recall(config=replace(config, validation_examples=300), split="validation")
    distances = {
        query - value for i in range(300) for value, query, _, _ in queried(part.example(i, None))
    }
    assert min(distances) == config.least_distance == config.gap + 1


def test_default_lengths_and_vocabulary() -> None:
    config = RecallDataConfig()
    assert (config.length, config.least_distance, config.queries) == (112, 65, 16)
    assert config.vocabulary == 1 + 64 + 64 + 16
    needle = replace(config, kind="needle")
    assert (needle.length, needle.least_distance, needle.queries) == (64 + 2 + 64 + 1, 65, 1)
    assert PADDING < config.first_key < config.first_value < config.first_filler


def chi_square(counts: torch.Tensor) -> float:
    expected = counts.sum() / len(counts)
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("kind", ["pairs", "needle"])
def test_values_and_keys_are_uniform_and_independent(kind: str) -> None:
    config = replace(SMALL if kind == "pairs" else NEEDLE, validation_examples=1500)
    batch = collate(
        [Recall(config=config, split="validation").example(i, None) for i in range(1500)]
    )
    keys = batch["tokens"][:, -1] - config.first_key
    values = batch["labels"][:, -1] - config.first_value
    joint = torch.bincount(keys * config.values + values, minlength=config.keys * config.values)
    # 29 degrees of freedom: above 58.3 once in a thousand seeds; the seed is fixed
    assert chi_square(joint.double()) < 58.3


def test_queries_come_in_every_order_alike() -> None:
    config = replace(SMALL, pairs=3, validation_examples=1200)
    part = Recall(config=config, split="validation")
    asks = [queried(part.example(i, None)) for i in range(1200)]
    orders = Counter(tuple(value // 2 for value, _, _, _ in each) for each in asks)
    assert len(orders) == 6
    # 5 degrees of freedom: above 20.5 once in a thousand seeds
    assert chi_square(torch.tensor(list(orders.values())).double()) < 20.5


def test_the_needle_is_anywhere_in_its_haystack() -> None:
    config = replace(NEEDLE, validation_examples=600)
    part = Recall(config=config, split="validation")
    places = {queried(part.example(i, None))[0][0] - 1 for i in range(600)}
    assert places == set(range(config.haystack + 1))


@pytest.mark.parametrize("config", [SMALL, NEEDLE], ids=lambda config: config.kind)
def test_the_same_generator_gives_the_same_example(config: RecallDataConfig) -> None:
    part = Recall(config=config, split="train")
    one, other = (part.example(3, torch_generator(1, "augment", 0, 3)) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    next_epoch = part.example(3, torch_generator(1, "augment", 1, 3))
    assert not torch.equal(one["tokens"], next_epoch["tokens"])
    # the run's seed draws it, not the data's
    seeded = Recall(config=replace(config, seed=7), split="train")
    assert torch.equal(
        seeded.example(3, torch_generator(1, "augment", 0, 3))["tokens"], one["tokens"]
    )


def test_evaluation_does_not_depend_on_the_order() -> None:
    part = Recall(config=SMALL, split="test")
    state = torch.get_rng_state()
    backwards = [part.example(i, None)["tokens"] for i in reversed(range(len(part)))]
    forwards = [part.example(i, None)["tokens"] for i in range(len(part))]
    assert torch.equal(torch.stack(backwards[::-1]), torch.stack(forwards))
    assert torch.equal(torch.get_rng_state(), state)
    (batch,) = evaluation_batches(part, 100)
    assert torch.equal(batch["tokens"], torch.stack(forwards))
    other_seed = Recall(config=replace(SMALL, seed=1), split="test")
    assert not torch.equal(other_seed.example(0, None)["tokens"], forwards[0])


def test_every_training_step_is_fresh() -> None:
    splits = load_recall_splits(SMALL)
    batches = training_batches(
        splits.train, batch_size=20, seed=5, first_step=1, last_step=3, workers=0
    )
    epochs = list(batches)
    sequences = {tuple(row) for batch in epochs for row in batch["tokens"].tolist()}
    assert len(sequences) == 60
    assert all(sorted(batch["example_id"].tolist()) == list(range(20)) for batch in epochs)


@pytest.mark.parametrize("kind", ["pairs", "needle"])
def test_the_splits_share_no_sequence_and_no_id(kind: str) -> None:
    splits = load_recall_splits(RecallDataConfig(kind=kind, train_examples=512))
    parts = (splits.train, splits.validation, splits.test)
    examples = [part.example(i, None) for part in parts for i in range(len(part))]
    assert [len(part) for part in parts] == [512, 512, 512]
    assert len({tuple(each["tokens"].tolist()) for each in examples}) == 3 * 512
    assert [int(each["example_id"]) for each in examples] == list(range(3 * 512))


def test_an_index_beyond_the_split_is_refused() -> None:
    part = Recall(config=SMALL, split="test")
    for index in (-1, 8):
        with pytest.raises(IndexError, match=f"test split has 8 examples, no number {index}"):
            part.example(index, None)


@pytest.mark.parametrize("config", [SMALL, NEEDLE], ids=lambda config: config.kind)
def test_another_gap_asks_the_same(config: RecallDataConfig) -> None:
    longer = with_gap(config, 30)
    assert longer.length == config.length + 23
    assert longer.least_distance == 31
    assert longer.vocabulary == config.vocabulary
    short, long = (Recall(config=c, split="validation").example(2, None) for c in (config, longer))
    asks = [[(value, label) for value, _, _, label in queried(each)] for each in (short, long)]
    assert asks[0] == asks[1]


def test_a_config_that_cannot_be_used_is_refused() -> None:
    wrong = {
        "kind": "pair",
        "pairs": 0,
        "keys": 0,
        "values": 1,
        "fillers": 0,
        "gap": -1,
        "haystack": -1,
        "train_examples": 0,
        "validation_examples": 0,
        "test_examples": 0,
        "seed": -1,
    }
    assert set(wrong) == {field.name for field in fields(RecallDataConfig)}
    for name, value in wrong.items():
        with pytest.raises(ConfigError, match=rf"data\.{name} must .* got {value!r}"):
            replace(SMALL, **{name: value})
    with pytest.raises(ConfigError, match=r"data\.pairs must be at most data\.keys \(6\), got 7"):
        replace(SMALL, pairs=7)
    assert replace(NEEDLE, pairs=7).queries == 1


def test_the_fingerprint_follows_every_field() -> None:
    changed = {
        "kind": "needle",
        "pairs": 3,
        "keys": 7,
        "values": 6,
        "fillers": 3,
        "gap": 8,
        "haystack": 11,
        "train_examples": 21,
        "validation_examples": 10,
        "test_examples": 9,
        "seed": 1,
    }
    assert set(changed) == {field.name for field in fields(RecallDataConfig)}
    configs = [SMALL, *(replace(SMALL, **{name: value}) for name, value in changed.items())]
    prints = [load_recall_splits(config).fingerprint for config in configs]
    assert len(set(prints)) == len(configs)
    assert load_recall_splits(replace(SMALL)).fingerprint == prints[0]


def test_the_fingerprint_follows_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_recall_splits(SMALL).fingerprint
    drawn = Recall.example

    def another(self: Recall, index: int, generator: torch.Generator | None) -> Batch:
        return drawn(self, index, generator or torch_generator(0, "other", index))

    monkeypatch.setattr(Recall, "example", another)
    assert load_recall_splits(SMALL).fingerprint != before
