"""`evaluate`: score a run, with intervals."""

import json
from collections.abc import Sequence
from pathlib import Path

from ..command_line import Parser


def main(argv: Sequence[str]) -> int:
    """Score the run that `argv` names and print the table."""
    parser = Parser("evaluate", description="Score a run, with 95 %% bootstrap intervals.")
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--again", metavar="REASON", help="open the test split once more")
    flags = parser.parse_strictly(argv)
    if flags.json is not None and not flags.json.parent.is_dir():
        parser.error(f"--json {flags.json}: there is no folder {flags.json.parent}")

    from ..evaluation.evaluate import evaluate_run, scores_table
    from ..loading import open_run
    from ..tracking.manifest import replace_text

    run = open_run(flags.run)
    result = evaluate_run(
        run.task,
        run.run_dir,
        run.manifest,
        split=flags.split,
        which=flags.checkpoint,
        again=flags.again,
    )
    print(scores_table(result))
    if flags.json is not None:
        replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    return 0
