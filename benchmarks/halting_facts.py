"""`halting_facts RUN WEIGHTS`: how often what happened on a file, as JSON; run in the project.

Counts for the pictures: steps taken by first right step and by blanks, and how often each step
is right.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from reference_reasoner.engine.evaluation.predictions import read_rows
from reference_reasoner.engine.training.task import Row


def rows_of(run: str, weights_sha256: str) -> list[Row]:
    """The predictions of the newest file that these weights of the run were scored on."""
    paths = Path(run, "predictions").glob(f"file-{weights_sha256[:12]}-*.jsonl")
    return read_rows(max(paths, key=lambda path: path.stat().st_mtime_ns))


def main(run: str, weights_sha256: str) -> None:
    """Print the counts."""
    rows = rows_of(run, weights_sha256)
    solved = [row for row in rows if row.output["right_at_full_depth"]]
    pairs = Counter((row.output["first_correct"], row.output["steps"]) for row in solved)
    blanks: dict[str, list[int]] = {}
    for row in solved:
        blanks.setdefault(row.slices["difficulty"], []).append(row.output["steps"])
    by_step = zip(*(row.output["right_by_step"] for row in rows), strict=True)
    facts = {
        "items": len(rows),
        "solved_by_full_depth": len(solved),
        "steps": sorted(Counter(row.output["steps"] for row in rows).items()),
        "first_right_and_steps_of_solved": sorted([*pair, n] for pair, n in pairs.items()),
        "steps_by_blanks_of_solved": {
            blank: {"items": len(steps), "mean_steps": sum(steps) / len(steps)}
            for blank, steps in sorted(blanks.items(), key=lambda each: int(each[0]))
        },
        "right_by_step": [sum(step) / len(rows) for step in by_step],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
