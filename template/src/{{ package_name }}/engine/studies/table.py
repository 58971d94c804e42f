"""A comparison as a table for a terminal."""

from collections.abc import Sequence

from .comparison import Comparison, Line
from .plan import Plan


def table(plan: Plan, comparison: Comparison, split: str) -> str:
    """Each variation's scores, and how far it is from the baseline."""
    head = (
        f"{plan.kind} {plan.preset}: {comparison.metric} on {split}, {comparison.examples} "
        "examples, best weights"
    )
    titles = ["variation", *(f"seed {seed}" for seed in plan.seeds), "mean", "95 % interval", "std"]
    compares = len(plan.variations) > 1
    if compares:
        titles += ["difference", f"{100 * comparison.level:.3g} % interval", ""]
    rows = [titles, *(_cells(line, plan.seeds, compares) for line in comparison.lines)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(titles))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    notes = [_note()] if compares else []
    return "\n".join([head, *(line.rstrip() for line in lines), *notes])


def _cells(line: Line, seeds: Sequence[int], compares: bool) -> list[str]:
    scores = [f"{line.by_seed[seed]:.4f}" if seed in line.by_seed else "-" for seed in seeds]
    mean = [f"{line.mean.value:.4f}", f"{line.mean.low:.4f} to {line.mean.high:.4f}"]
    cells = [line.name, *scores, *mean, "-" if line.std is None else f"{line.std:.4f}"]
    if not compares:
        return cells
    found = line.difference
    if found is None:
        return [*cells, "-", "-", line.verdict]
    return [*cells, f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", line.verdict]


def _note() -> str:
    return (
        "Differences are of the same seeds and examples; their intervals hold together in 95 % of "
        "studies (Bonferroni)."
    )
