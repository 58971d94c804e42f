"""`distances`: how well a run on recall remembers when the query comes later."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...engine.commands.parser import Parser
from ...engine.project import Project


def main(argv: Sequence[str], project: Project) -> int:
    """Score a run on recall at several gaps (distances to remember over) and print the table."""
    parser = Parser(
        "distances",
        description="Score a run on recall with other gaps between a value and its query, on "
        "examples of validation that keep their pairs.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument(
        "--gaps",
        metavar="N,...",
        help="tokens in between; default: 1, 2, 4, 8 times the run's",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    flags = parser.parse_strictly(argv)
    parser.check_output("--json", flags.json)
    gaps = None if flags.gaps is None else _gaps(parser, flags.gaps)

    from ...engine.atomic_write import replace_text

    lines = _measured(project, flags.run, gaps)
    print(_table(lines))
    if flags.json is not None:
        replace_text(flags.json, json.dumps(lines, indent=2) + "\n")
    return 0


def _gaps(parser: Parser, text: str) -> list[int]:
    try:
        gaps = [int(word) for word in text.split(",")]
    except ValueError:
        parser.error(f"--gaps {text}: write whole numbers with commas between them")
    if min(gaps) < 0:
        parser.error(f"--gaps {text}: a gap is at least 0")
    return gaps


def _measured(project: Project, run: str, gaps: list[int] | None) -> list[dict[str, Any]]:
    """Score recall at each gap, a line each. Raises RefusedInputError for a run of another task."""
    from ...engine.errors import RefusedInputError
    from ...engine.training.trained_run import load_model, open_run
    from ..tasks.recall import RecallTask

    task = open_run(project, run).task
    if not isinstance(task, RecallTask):
        raise RefusedInputError(f"{run} is a run of the task {task.name!r}, not of 'recall'")
    model, _ = load_model(project, run)
    trained = task.config.data.gap
    chance = 1 / task.config.data.values
    lines = []
    for gap in gaps or [factor * max(1, trained) for factor in (1, 2, 4, 8)]:
        other, accuracy, queries = task.accuracy_at_gap(model, gap)
        lines.append(
            {
                "gap_tokens": gap,
                "least_distance_tokens": other.least_distance,
                "length_tokens": other.length,
                "queries": queries,
                "token_accuracy": accuracy,
                "chance": chance,
                "chance_standard_error": math.sqrt(chance * (1 - chance) / queries),
                "trained_gap_tokens": trained,
            }
        )
    return lines


def _table(lines: Sequence[dict[str, Any]]) -> str:
    rows = [f"{'gap':>8}{'tokens':>9}{'queries':>9}{'accuracy':>10}{'chance':>10}{'+- 3 SE':>9}"]
    for line in lines:
        mark = "  trained" if line["gap_tokens"] == line["trained_gap_tokens"] else ""
        rows.append(
            f"{line['gap_tokens']:>8}{line['length_tokens']:>9}{line['queries']:>9}"
            f"{line['token_accuracy']:>10.4f}{line['chance']:>10.4f}"
            f"{3 * line['chance_standard_error']:>9.4f}{mark}"
        )
    return "\n".join(rows)
