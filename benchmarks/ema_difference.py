"""`ema_difference RUN ...`: raw less averaged weights of the same runs, as JSON; in the project.

An average of the weights does not change a training, so one training is both sides of the
comparison; it is scored twice on validation and compared as `study` compares variations.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from reference_reasoner.engine.evaluation.predictions import find_stored, read_rows
from reference_reasoner.engine.evaluation.scoring import evaluate_run
from reference_reasoner.engine.studies.comparison import compare
from reference_reasoner.engine.training.task import Row
from reference_reasoner.engine.training.trained_run import open_run

from .project_of_reference import REFERENCE


def rows(run: str, weights: Any) -> list[Row]:
    """The predictions of validation, made and stored."""
    opened = open_run(REFERENCE, run)
    result = evaluate_run(
        opened.task, opened.run_dir, opened.manifest, split="validation", which=weights
    )
    path = find_stored([opened.run_dir], result)
    if path is None:
        raise SystemExit(f"{run} has no predictions of its {weights} weights")
    return read_rows(path)


def main(runs: list[str]) -> None:
    """Print the comparison; the seeds are those of the runs."""
    opened = [open_run(REFERENCE, run) for run in runs]
    seeds = [each.task.config.seed for each in opened]
    outcomes = {
        name: {seed: rows(run, weights) for seed, run in zip(seeds, runs, strict=True)}
        for name, weights in (("baseline", "ema"), ("raw_weights", "raw"))
    }
    comparison = asdict(compare(opened[0].task, outcomes))
    print(json.dumps({"runs": runs, "comparison": comparison}))


if __name__ == "__main__":
    main(sys.argv[1:])
