"""What a study compares: variations of one config, each trained with the same seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import RefusedInputError

Kind = Literal["seeds", "ablate"]
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """A name for what differs from the preset."""

    name: str
    changes: Mapping[str, Any]
    """{dotted field: value}; nothing for the baseline."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a study."""

    variation: str
    seed: int
    run_dir: Path
    train: tuple[str, ...]
    """The words of its `train` command; they begin the run, or go on with it."""

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run_dir.name


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides what a study trains."""

    kind: Kind
    preset: str
    changes: Mapping[str, Any]
    """{dotted field: value} of every run, over the preset."""
    variations: tuple[Variation, ...]
    """The baseline first."""
    seeds: tuple[int, ...]

    def trials(self, folder: Path) -> list[Trial]:
        """Every training, below `folder`; one seed after another, so that pairs end together."""
        return [self._trial(v, seed, folder) for seed in self.seeds for v in self.variations]

    def _trial(self, variation: Variation, seed: int, folder: Path) -> Trial:
        run_dir = folder / f"{variation.name}-seed{seed}"
        words = ["train", "--preset", self.preset, "--run-dir", str(run_dir), "--resume"]
        for name, value in {**self.changes, **variation.changes, "seed": seed}.items():
            words += [f"--{name}", *_words(value)]
        return Trial(variation=variation.name, seed=seed, run_dir=run_dir, train=tuple(words))

    def as_json(self) -> dict[str, Any]:
        """JSON values; `check_same` reads them."""
        return {
            "kind": self.kind,
            "preset": self.preset,
            "changes": _plain(self.changes),
            "variations": {each.name: _plain(each.changes) for each in self.variations},
            "seeds": list(self.seeds),
        }

    def check_same(self, before: Mapping[str, Any], folder: Path) -> None:
        """Raise RefusedInputError where the study in `folder` is about something else.

        More variations and more seeds are welcome: what was trained is kept.
        """
        now = self.as_json()
        for name in ("kind", "preset", "changes"):
            _check(name, before[name], now[name], folder)
        for name, changes in now["variations"].items():
            _check(f"variation {name}", before["variations"].get(name, changes), changes, folder)


def _check(name: str, before: Any, now: Any, folder: Path) -> None:
    if before != now:
        raise RefusedInputError(
            f"{folder} holds a study with another {name}: it was {before!r}, now {now!r}; name "
            "another --study-dir"
        )


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in changes.items()}


def _words(value: Any) -> Sequence[str]:
    return [str(each) for each in value] if isinstance(value, list | tuple) else [str(value)]
