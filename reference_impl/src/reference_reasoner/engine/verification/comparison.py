"""How the records of one run differ from those of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..tracking.sinks import Record

_ABSENT = "absent"
Key = tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field of one record with two values."""

    step: int
    kind: str
    field: str
    recorded: Any
    again: Any

    def __str__(self) -> str:
        where = f"step {self.step}, {self.field} ({self.kind})"
        return f"{where}: {self.recorded!r} in the run, {self.again!r} now"

    @property
    def relative(self) -> float:
        """|a - b| / max(|a|, |b|); infinite where one of the two is not a number."""
        if not all(isinstance(value, int | float) for value in (self.recorded, self.again)):
            return float("inf")
        largest = max(abs(self.recorded), abs(self.again))
        return float(abs(self.recorded - self.again) / largest) if largest else 0.0


def differences(recorded: Sequence[Record], again: Sequence[Record]) -> list[Difference]:
    """Each field that differs, in the order of the run; `wall_*` fields depend on the clock.

    What only the second run wrote is no difference: it may have gone further, or have done what
    a signal kept the first from doing.
    """
    found = []
    others = {_key(record): record for record in again}
    for record in recorded:
        step, kind = _key(record)
        other = others.get((step, kind))
        if other is None:
            found.append(
                Difference(step=step, kind=kind, field="record", recorded="written", again=_ABSENT)
            )
            continue
        found += [
            Difference(step=step, kind=kind, field=field, recorded=one, again=two)
            for field, one, two in fields(record, other)
            if one != two
        ]
    return found


def fields(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(field, its value in each), for all fields that do not depend on the clock."""
    names = [*one, *(name for name in two if name not in one)]
    return [
        (name, one.get(name, _ABSENT), two.get(name, _ABSENT))
        for name in names
        if not name.startswith("wall_")
    ]


def closeness(found: Sequence[Difference], records: int) -> str:
    """How far apart two runs are that wrote `records` records in common."""
    if not found:
        return f"how close: all {records} records are equal"
    worst = max(found, key=lambda each: each.relative)
    return (
        f"how close: {len(found)} fields in {records} records differ, the most by "
        f"{worst.relative:.1e} of its size: {worst}"
    )


def _key(record: Record) -> Key:
    return int(record["step"]), str(record["kind"])
