"""Write docs/results.md from the JSON of finished experiments: `python results/tables.py`."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent
PAGE = RESULTS.parent / "docs" / "results.md"


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `python results/tables.py` from the JSON in `results/`; never by hand.",
            "",
            *reference(),
            *recall(),
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
        "| what | required | measured | |",
        "|---|---|---|---|",
    ]
    marks = {True: "holds", False: "**fails**", None: ""}
    for part in found["parts"].values():
        for line in part:
            cells = (line["claim"], line["required"], line["measured"], marks[line["holds"]])
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def recall() -> list[str]:
    """Recall at and beyond the trained distance, with and without memory."""
    on, off = (load(f"recall/memory_{name}.json") for name in ("on", "off"))
    seeds = load("recall/seeds.json")
    lines = [
        "## Recall beyond the attention's window",
        "",
        "`train --preset recall` of a project with `example: recursive_reasoner`: 16 pairs, 64",
        "keys, 64 values, window 16, 400 steps. Then `distances RUN --json FILE`. Seed 0, the best",
        "weights. Without memory: `--model.backbone.use-memory False`. Attention cannot reach a",
        "value from its query: a test asserts that the gradient is zero.",
        "",
        "| gap in tokens | length | queries | memory | no memory | chance +- 3 standard errors |",
        "|---|---|---|---|---|---|",
    ]
    for one, other in zip(on, off, strict=True):
        trained = " (trained)" if one["gap_tokens"] == one["trained_gap_tokens"] else ""
        cells = [
            f"{one['gap_tokens']}{trained}",
            str(one["length_tokens"]),
            str(one["queries"]),
            percent(one["token_accuracy"]),
            percent(other["token_accuracy"]),
            f"{percent(one['chance'])} +- {percent(3 * one['chance_standard_error'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"All seeds, after the last step: {in_words(seeds['with_memory'])} with memory,",
        f"{in_words(seeds['without_memory'])} without. {seeds['machine']}.",
        "",
    ]


def in_words(scores: dict[str, float]) -> str:
    """`99.93 % (seed 0), 98.12 % (seed 1)`, from shares by seed."""
    return ", ".join(f"{percent(score)} (seed {seed})" for seed, score in scores.items())


def percent(share: float) -> str:
    """`12.34 %` of 0.1234."""
    return f"{100 * share:.2f} %"


def load(name: str) -> Any:
    """The JSON file `name` below results/."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
