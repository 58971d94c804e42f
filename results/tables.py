"""Write docs/results.md and its pictures from the JSON in results/: `python -m results.tables`."""

from . import figures
from .gpu_tables import gpu
from .learning_tables import learning
from .stored import RESULTS, head, load, row

PAGE = RESULTS.parent / "docs" / "results.md"


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `python -m results.tables` from the JSON in `results/`; never by hand.",
            "",
            *learning(),
            *gpu(),
            *reference(),
        ]
    )


def reference() -> list[str]:
    """What the reference model is held to, line by line."""
    found = load("reference/evidence.json")
    machine = found["machine"]
    lines = [
        "## The reference model on puzzles",
        "",
        "`nox -s evidence -- --json results/reference/evidence.json`: trained anew, scored on test",
        f"splits that nothing was chosen on, one thread on {machine['cores']} cores of",
        f"{machine['processor']}, the versions of `template/constraints.txt`. Intervals are 95 %",
        "bootstrap intervals over the split's puzzles; they do not cover the choice of the seed,",
        "of which there is one.",
        "",
        *head(["what", "required", "measured", ""]),
    ]
    marks = {True: "holds", False: "**fails**", None: ""}
    for part in found["parts"].values():
        for line in part:
            cells = (line["claim"], line["required"], line["measured"], marks[line["holds"]])
            lines.append(row(cells))
    return [*lines, ""]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    figures.draw()
