"""Write docs/results.md, its pictures and the README's table: `python -m results.tables`."""

from . import figures, gpu_row_tables, gpu_tables, peer_tables
from .daily_loop_tables import daily_loop
from .learning_tables import learning, summary
from .peer_tables import judged, peers
from .stored import RESULTS, head, load

PAGE = RESULTS.parent / "docs" / "results.md"
README = RESULTS.parent / "README.md"
BEGIN, END = "<!-- by results.tables: -->\n", "<!-- end -->\n"


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `python -m results.tables` from the JSON in `results/`; never by hand.",
            "",
            *learning(),
            *gpu_tables.gpu(),
            *gpu_row_tables.rows_of_a_gpu(),
            *peers(),
            *daily_loop(),
            *reference(),
        ]
    )


def readme() -> str:
    """The README with its table as it is now."""
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = (summary, gpu_tables.summary, peer_tables.summary, gpu_row_tables.summary)
    table = "\n\n".join("\n".join(part()) for part in parts)
    return f"{before}{BEGIN}\n{table}\n\n{END}{after}"


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
    for part in found["parts"].values():
        lines += judged(part)
    return [*lines, ""]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(readme(), encoding="utf-8")
    figures.draw()
