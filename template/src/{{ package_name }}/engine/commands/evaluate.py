"""`evaluate`: score a run, with intervals."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..project import Project
from .parser import Parser

NAMED = 20
"""Parts of a file that are left out and named one by one."""


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `evaluate`: score a run and print the table."""
    parser = _parser()
    flags = parser.parse_strictly(argv)
    parser.check_output("--json", flags.json)
    if flags.file is not None and (flags.split or flags.again):
        parser.error("--file is scored outside the splits: leave --split and --again out")

    from ..atomic_write import replace_text
    from ..evaluation.scoring import evaluate_file, evaluate_run, scores_table
    from ..training.trained_run import open_run

    run = open_run(project, flags.run)
    which: Any = {"which": flags.checkpoint, "steps": flags.steps}
    if flags.file is None:
        which |= {"split": flags.split or "validation", "again": flags.again}
        result = evaluate_run(run.task, run.run_dir, run.manifest, **which)
    else:
        which |= {"file": flags.file}
        result, left_out = evaluate_file(run.task, run.run_dir, run.manifest, **which)
        _tell(left_out)
    print(scores_table(result))
    if flags.json is not None:
        replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    return 0


def _parser() -> Parser:
    parser = Parser("evaluate", description="Score a run, with 95 % bootstrap intervals.")
    add = parser.add_argument
    add("run", metavar="RUN", help="a run directory, or its name below runs/")
    add("--split", choices=["validation", "test"], help="default: validation")
    add("--file", type=Path, metavar="FILE", help="score a file's examples instead of a split's")
    add("--steps", type=int, metavar="N", help="the model's own steps; default: as in training")
    add(
        "--checkpoint",
        choices=["best", "last", "raw", "ema"],
        default="best",
        help="raw, ema: of the last step; last: those of them that the run selects on",
    )
    add("--json", type=Path, metavar="FILE", help="also write the result here")
    add("--again", metavar="REASON", help="open the test split once more")
    return parser


def _tell(left_out: Sequence[str]) -> None:
    for line in left_out[:NAMED]:
        print(line, file=sys.stderr)
    if len(left_out) > NAMED:
        print(f"and {len(left_out) - NAMED} more are left out", file=sys.stderr)
