"""The section of docs/results.md about what is typed first and most often."""

from .peer_tables import judged
from .stored import head, load, there

FIGURES = "daily_loop.json"


def daily_loop() -> list[str]:
    """Wall clock of commands; nothing where they have not been measured."""
    if not there(FIGURES):
        return []
    found = load(FIGURES)
    machine = found["machine"]
    suite = "" if found["suite_seconds"] is None else " --suite"
    return [
        "## The scaffolder and the daily loop",
        "",
        f"`python -m benchmarks.daily_loop{suite} --json results/{FIGURES}`: wall clock of",
        "processes of their own in the rendered reference model, one thread each, medians and",
        f"extremes of {found['repetitions']} repetitions that take turns; what is beyond an import",
        f"is taken turn by turn. Commit {found['commit'][:12]}; {machine['cores']} cores of",
        f"{machine['processor']}, torch {machine['torch']}, copier {machine['copier']}.",
        "",
        *head(["what", "required", "measured", ""]),
        *judged(found["lines"]),
        "",
    ]
