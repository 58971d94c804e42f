"""The puzzles that ship and those that `generate` makes."""

import json
from collections.abc import Iterator

from .claims import Line
from .reference_project import Reference


def puzzles(reference: Reference) -> Iterator[Line]:
    """Rules, uniqueness, speed of the puzzles."""
    facts = json.loads(reference.run("benchmarks.puzzle_facts").out)
    for kind in ("shipped", "fresh"):
        right, count = facts[f"{kind}_confirmed"], facts[kind]
        yield Line(
            claim=f"{kind} puzzles that a plain solver confirms",
            required="all",
            measured=f"{right:,} of {count:,}",
            holds=right == count,
        )
    for stratum, least in (("minimal", 5), ("guesses:5+", 2), ("blanks:45", 20)):
        speed = facts["per_second"][stratum]
        yield Line(
            claim=f"9 x 9 puzzles a second and core, {stratum}",
            required=f">= {least}",
            measured=f"{speed:.0f}",
            holds=speed >= least,
        )
    equal, size = facts["equal_up_to_symmetry"], facts["shipped_bytes"]
    yield Line(
        claim="shipped puzzles equal up to symmetry",
        required="0",
        measured=str(equal),
        holds=equal == 0,
    )
    yield Line(
        claim="size of the shipped set",
        required="< 2 MB",
        measured=f"{size / 1e6:.2f} MB",
        holds=size < 2e6,
    )
    whole, minimal = facts["test_9x9"], facts["test_9x9_minimal"]
    yield Line(
        claim="9 x 9 test puzzles that are minimal",
        required="all",
        measured=f"{minimal} of {whole}",
        holds=minimal == whole,
    )
    yield Line(
        claim="6 x 6 test puzzles, as many of each number of blanks from 8",
        required=">= 2,000",
        measured=f"{facts['test_6x6']:,}: {facts['test_6x6_by_blanks']} of each, "
        f"{facts['test_6x6_minimal']} minimal",
        holds=facts["test_6x6"] >= 2000 and len(facts["test_6x6_by_blanks"]) == 1,
    )
    shared = ", ".join(f"{k}: {v:.1%}" for k, v in facts["shared_solutions"].items())
    yield Line(
        claim="test puzzles whose solution is, up to symmetry, one of training's",
        required="stated",
        measured=shared,
        holds=None,
    )
