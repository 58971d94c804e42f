"""`step_by_step RUN WEIGHTS FILE`: one puzzle of a file, answer by answer, as JSON; in the project.

The hardest that the run's averaged weights solved in more than one step, chosen as `report` does.
"""

import json
import sys
from pathlib import Path

import torch
from reference_reasoner.engine.training.checkpoint import load_weights
from reference_reasoner.engine.training.trained_run import open_run
from reference_reasoner.reasoner.data.sudoku import EMPTY_TOKEN, given_puzzles
from reference_reasoner.reasoner.evaluation.steps import row_to_show
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask

from .halting_facts import rows_of
from .project_of_reference import REFERENCE


def main(run: str, weights_sha256: str, file: str) -> None:
    """Print the puzzle, its solution, every answer and how sure the head was of each."""
    row = row_to_show(rows_of(run, weights_sha256))
    opened = open_run(REFERENCE, run)
    if not isinstance(opened.task, SudokuTask):
        raise SystemExit(f"{run} does not solve Sudokus")
    with Path(file).open("rb") as lines:
        examples, _ = opened.task.labelled(list(given_puzzles(lines)))
    example = examples.example(int(row.example_id), None)
    model = opened.task.build_model().eval()
    model.load_state_dict(load_weights(opened.run_dir, "ema")[0])
    depth = len(row.output["confidences"])
    with torch.inference_mode():
        steps = list(model.at_depth(example["tokens"][None], depth))
    found = {
        "puzzle": (example["tokens"] - EMPTY_TOKEN).tolist(),
        "solution": (example["labels"] - EMPTY_TOKEN).tolist(),
        "answers": [(step.logits[0].argmax(-1) - EMPTY_TOKEN).tolist() for step in steps],
        "confidences": row.output["confidences"],
        "steps": row.output["steps"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
