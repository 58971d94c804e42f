"""One line of the doctor's table: what is looked at, the proof it repeats, and what was seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


class FailedError(Exception):
    """The item does not hold; the message says what was seen."""


class SkippedError(Exception):
    """The item cannot be looked at here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something to look at."""

    name: str
    proof: str
    """Where the same is proved, as REPRODUCIBILITY.md names it."""
    check: Callable[[], str]
    """Says what it saw; raises FailedError or SkippedError."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an item."""

    name: str
    proof: str
    state: Literal["passed", "failed", "skipped"]
    text: str

    def line(self) -> str:
        """The outcome's line of the table."""
        return f"{self.name:<16} {self.state + ':':<9} {self.text}  ({self.proof})"


def run_item(item: Item) -> Outcome:
    """Look at one item. An error of any other kind is a failure of that item alone."""
    state: Literal["passed", "failed", "skipped"] = "failed"
    try:
        text = item.check()
        state = "passed"
    except SkippedError as error:
        state, text = "skipped", str(error)
    except FailedError as error:
        text = str(error)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    return Outcome(name=item.name, proof=item.proof, state=state, text=" ".join(text.split()))


def require(holds: bool, seen: str) -> None:
    """Raise FailedError(seen) unless it holds."""
    if not holds:
        raise FailedError(seen)
