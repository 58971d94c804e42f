"""Recall beyond the attention window: keys and values that are drawn anew for every example.

`pairs`, multi-query associative recall (Arora et al. 2023, Zoology, section 3), P pairs:

    k1 v1 k2 v2 ... kP vP | gap fillers | the P keys again, in a random order

`needle`, one pair at a random place of `haystack` fillers:

    f f f k v f ... f     | gap fillers | k

The target at a query is the value of its key. The value is not given back after the query: an
answer could otherwise be copied from near by. Where `least_distance` is longer than the reach
of a model's attention, chance is the best it can do without a memory: 1 / `values`.

Token ids: 0 padding (in no example; for a model that needs one), then `keys` keys, `values`
values and `fillers` fillers. T tokens, P pairs.
"""

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...engine.config.fields import require
from ...engine.data.dataset import Batch, Splits
from ...engine.data.splits import SPLITS, sha256_of_arrays, split_fingerprint
from ...engine.seeding import torch_generator
from .labels import IGNORED

PADDING = 0

Kind = Literal["pairs", "needle"]
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class RecallDataConfig:
    """What is to be remembered, and for how long."""

    kind: Kind = "pairs"
    """Many pairs at the beginning, or one pair hidden in fillers."""
    pairs: int = 16
    """Pairs of one example; `needle` has one, whatever stands here."""
    keys: int = 64
    """Different keys that there are; those of one example are distinct."""
    values: int = 64
    """Different values that there are; drawn uniformly, the same one may come twice."""
    fillers: int = 16
    """Different fillers that there are. With one, a memory could learn the gap's only token once
    and write nothing from then on; a long gap would then be no harder than a short one."""
    gap: int = 64
    """Fillers between the last pair (or the haystack) and the first query."""
    haystack: int = 64
    """Fillers among which `needle` hides its pair; `pairs` has none."""
    train_examples: int = 100_000
    """Examples of an epoch, which draws all of them anew."""
    validation_examples: int = 512
    """Examples that decide what is best; always the same."""
    test_examples: int = 512
    """Examples looked at once, at the end; always the same."""
    seed: int = 0
    """Key of validation and test; not the run's seed, which draws the training examples."""

    def __post_init__(self) -> None:
        kinds = get_args(Kind)
        require(self.kind in kinds, f"data.kind must be one of {kinds}, got {self.kind!r}")
        positive = ("pairs", "keys", "fillers", *(f"{split}_examples" for split in SPLITS))
        least = dict.fromkeys(positive, 1) | {"values": 2, "gap": 0, "haystack": 0, "seed": 0}
        for name, lowest in least.items():
            value = getattr(self, name)
            require(value >= lowest, f"data.{name} must be at least {lowest}, got {value}")
        require(
            self.kind == "needle" or self.pairs <= self.keys,
            f"data.pairs must be at most data.keys ({self.keys}), got {self.pairs}",
        )

    @property
    def first_key(self) -> int:
        """Token id of the first key."""
        return PADDING + 1

    @property
    def first_value(self) -> int:
        """Token id of the first value."""
        return self.first_key + self.keys

    @property
    def first_filler(self) -> int:
        """Token id of the first filler."""
        return self.first_value + self.values

    @property
    def vocabulary(self) -> int:
        """Number of token ids, padding among them."""
        return self.first_filler + self.fillers

    @property
    def queries(self) -> int:
        """Labels of one example that are not IGNORED; they are its last tokens."""
        return self.pairs if self.kind == "pairs" else 1

    @property
    def length(self) -> int:
        """T, the tokens of every example."""
        haystack = self.haystack if self.kind == "needle" else 0
        return haystack + 2 * self.queries + self.gap + self.queries

    @property
    def least_distance(self) -> int:
        """Smallest possible distance from a value to its query, in tokens."""
        return self.gap + 1


def with_gap(config: RecallDataConfig, gap: int) -> RecallDataConfig:
    """`config` with another gap, to evaluate at lengths that were not trained on.

    Example i of a split keeps its pairs, and the order of its queries or place of its needle.
    """
    return replace(config, gap=gap)


@dataclass(frozen=True, kw_only=True)
class Recall:
    """One split of associative recall.

    An example: `tokens` and `labels` int64 [T], `example_id` int64.

    A label is the token id of the right value, IGNORED where nothing is asked. Without a
    generator example i is a function of (seed, split, i) alone; with one it is drawn from that,
    so that an epoch of training shares nothing with the last.
    """

    config: RecallDataConfig
    split: Split

    def __len__(self) -> int:
        examples: int = getattr(self.config, f"{self.split}_examples")
        return examples

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        """Example `index`, drawn from the `generator` if there is one.

        Raises IndexError for an index that the split does not have.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"the {self.split} split has {len(self)} examples, no number {index}")
        if generator is None:
            generator = torch_generator(self.config.seed, "recall", self.split, index)
        draw = _draw_pairs if self.config.kind == "pairs" else _draw_needle
        tokens, answers = draw(self.config, generator)
        labels = torch.full_like(tokens, IGNORED)
        labels[-len(answers) :] = answers
        return {
            "example_id": torch.tensor(self.first_id + index),
            "tokens": tokens,
            "labels": labels,
        }

    @property
    def first_id(self) -> int:
        """`example_id` of example 0; the ids of the splits follow one another."""
        before = SPLITS[: SPLITS.index(self.split)]
        return sum(getattr(self.config, f"{split}_examples") for split in before)


def _draw_pairs(config: RecallDataConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw key-value pairs and their queries: tokens int64 [T], the last P's answers int64 [P]."""
    keys = config.first_key + torch.randperm(config.keys, generator=generator)[: config.pairs]
    values = _uniform(config.first_value, config.values, config.pairs, generator)
    order = torch.randperm(config.pairs, generator=generator)
    pairs = torch.stack([keys, values], 1).flatten()
    # last, so that another gap leaves the pairs as they are
    fillers = _uniform(config.first_filler, config.fillers, config.gap, generator)
    return torch.cat([pairs, fillers, keys[order]]), values[order]


def _draw_needle(config: RecallDataConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw a needle in filler and its query: tokens int64 [T], the last's answer int64 [1]."""
    key = _uniform(config.first_key, config.keys, 1, generator)
    value = _uniform(config.first_value, config.values, 1, generator)
    place = int(torch.randint(config.haystack + 1, (), generator=generator))
    total = config.haystack + config.gap
    fillers = _uniform(config.first_filler, config.fillers, total, generator)
    return torch.cat([fillers[:place], key, value, fillers[place:], key]), value


def _uniform(first: int, kinds: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(first, first + kinds, (count,), generator=generator)


def load_recall_splits(config: RecallDataConfig) -> Splits:
    """Make the three splits of associative recall; nothing is downloaded or stored.

    Each draws from keys of its own. Two examples are equal by chance only, which becomes likely
    where the config leaves few of them to draw, such as one pair and one filler.
    """
    train, validation, test = (Recall(config=config, split=split) for split in get_args(Split))
    # one example of each stands for the code that draws them: change it, and the data is other
    drawn = {part.split: part.example(0, None)["tokens"] for part in (train, validation, test)}
    data_sha256 = sha256_of_arrays({split: tokens.numpy() for split, tokens in drawn.items()})
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
