"""Comparing variations on the same examples and seeds: means, spread, paired differences.

The bootstrap draws seeds and examples, each with replacement, the same ones for both sides of a
difference, so that what is hard for both cancels. B draws, N examples, S seeds.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.bootstrap import DrawnRows, Interval, Reader
from ..seeding import numpy_generator
from ..training.task import Row, Task

Outcomes = Mapping[str, Mapping[int, Sequence[Row]]]
"""{variation: {seed: its predictions}}"""
DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the comparison: one variation's scores and paired difference from the baseline."""

    name: str
    by_seed: Mapping[int, float]
    mean: Interval
    """Of the score over the seeds, at LEVEL."""
    std: float | None
    """Of the score over the seeds (n - 1); None for one seed."""
    difference: Interval | None
    """Less the baseline, over the seeds that both have; None for the baseline itself, and where
    no seed has predictions of both, or they are of other examples."""
    verdict: str
    """`better`, `worse`, `not told apart`, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of all variations with the baseline, which comes first."""

    metric: str
    examples: int
    """Of the baseline."""
    lines: tuple[Line, ...]
    level: float
    """Of the intervals of differences: 1 - 0.05 / their number (Bonferroni), so that all of them
    hold together in 95 % of studies."""


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The scores of one run of a comparison, on the examples and on each draw of them."""

    ids: tuple[int, ...]
    value: float
    draws: NDArray[np.float64]
    """[B], the score of each draw of the examples."""


def compare(task: Task[Any], outcomes: Outcomes, *, draws: int = DRAWS) -> Comparison:
    """Compare the task's primary metric; the first variation of `outcomes` is the baseline.

    Percentile bootstrap over seeds and examples (Efron and Tibshirani 1993, ch. 13). A few seeds
    say little of what another one would give: look at each. Raises ValueError where the baseline
    has no predictions.
    """
    scored = {
        name: {seed: _scored(task, rows, draws) for seed, rows in by_seed.items()}
        for name, by_seed in outcomes.items()
    }
    baseline = next(iter(scored.values()), {})
    if not baseline:
        raise ValueError("the baseline has no predictions to compare with")
    level = 1 - (1 - LEVEL) / max(1, len(scored) - 1)
    lines = tuple(
        _line(name, by_seed, baseline, level, task.direction)
        for name, by_seed in scored.items()
        if by_seed
    )
    examples, metric = len(next(iter(baseline.values())).ids), task.primary_metric
    return Comparison(metric=metric, examples=examples, lines=lines, level=level)


def _scored(task: Task[Any], rows: Sequence[Row], draws: int) -> _Scored:
    known: dict[Reader, NDArray[Any]] = {}
    values = []
    for draw in range(draws):  # keyed by the draw, so every run draws the same examples
        generator = numpy_generator(0, "study", "examples", len(rows), draw)
        chosen = generator.integers(0, len(rows), len(rows))
        drawn = DrawnRows(rows=rows, chosen=chosen, known=known)
        values.append(task.scores(drawn)[task.primary_metric])
    return _Scored(
        ids=tuple(row.example_id for row in rows),
        value=task.scores(rows)[task.primary_metric],
        draws=np.array(values),
    )


def _line(
    name: str, side: Mapping[int, _Scored], baseline: Mapping[int, _Scored], level: float, best: str
) -> Line:
    values = [each.value for each in side.values()]
    seeds = [seed for seed in side if seed in baseline and side[seed].ids == baseline[seed].ids]
    difference = None
    if seeds and side is not baseline:
        pairs = [(side[seed], baseline[seed]) for seed in seeds]
        apart = [one.draws - two.draws for one, two in pairs]
        difference = _over_seeds([one.value - two.value for one, two in pairs], apart, level)
    verdict = ""
    if difference is not None:
        better = (difference.value > 0) == (best == "max")
        told_apart = not difference.low <= 0 <= difference.high
        verdict = ("better" if better else "worse") if told_apart else "not told apart"
    return Line(
        name=name,
        by_seed={seed: each.value for seed, each in side.items()},
        mean=_over_seeds(values, [each.draws for each in side.values()], LEVEL),
        std=statistics.stdev(values) if len(values) > 1 else None,
        difference=difference,
        verdict=verdict,
    )


def _over_seeds(
    values: Sequence[float], draws: Sequence[NDArray[np.float64]], level: float
) -> Interval:
    """The mean to compare over S seeds and its interval; `draws` S x [B], each draws seeds, too."""
    table = np.stack(draws)
    seeds, count = table.shape
    chosen = numpy_generator(0, "study", "seeds", seeds).integers(0, seeds, (seeds, count))
    means = np.take_along_axis(table, chosen, axis=0).mean(0)
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(means, [tail, 100 - tail])
    return Interval(value=statistics.fmean(values), low=float(low), high=float(high))


def comparison_table(
    comparison: Comparison, *, title: str, seeds: Sequence[int], paired: bool
) -> str:
    """The table of a comparison: each variation's scores and, if `paired`, its difference."""
    titles = ["variation", *(f"seed {seed}" for seed in seeds), "mean", "95 % interval", "std"]
    if paired:
        titles += ["difference", f"{100 * comparison.level:.3g} % interval", ""]
    rows = [titles, *(_cells(line, seeds, paired) for line in comparison.lines)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(titles))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    note = (
        "Differences are of the same seeds and examples; their intervals hold together in 95 % of "
        "studies (Bonferroni)."
    )
    return "\n".join([title, *(line.rstrip() for line in lines), *([note] if paired else [])])


def _cells(line: Line, seeds: Sequence[int], paired: bool) -> list[str]:
    scores = [f"{line.by_seed[seed]:.4f}" if seed in line.by_seed else "-" for seed in seeds]
    std = "-" if line.std is None else f"{line.std:.4f}"
    cells = [line.name, *scores, f"{line.mean.value:.4f}", _range(line.mean, ".4f"), std]
    if not paired:
        return cells
    found = line.difference
    told = ["-", "-"] if found is None else [f"{found.value:+.4f}", _range(found, "+.4f")]
    return [*cells, *told, line.verdict]


def _range(interval: Interval, form: str) -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"
