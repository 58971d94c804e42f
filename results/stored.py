"""Reading results/ and writing cells."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent


def load(name: str) -> Any:
    """The JSON file `name` below results/."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def there(name: str) -> bool:
    """Whether the JSON file `name` below results/ has been written."""
    return (RESULTS / name).exists()


def percent(share: float, digits: int = 2) -> str:
    """`12.34 %` of 0.1234."""
    return f"{100 * share:.{digits}f} %"


def interval(score: Mapping[str, float]) -> str:
    """`12.3 % (11.0 to 13.4)` of a share with its interval."""
    return f"{percent(score['value'], 1)} ({100 * score['low']:.1f} to {100 * score['high']:.1f})"


def row(cells: Sequence[object]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def head(titles: Sequence[str]) -> list[str]:
    """The first two lines of a Markdown table."""
    return [row(titles), row(["---"] * len(titles))]


def command_of(study: Mapping[str, Any]) -> str:
    """What a user types in a rendered project for the study."""
    return f"`{' '.join(study['argv'])}`"
