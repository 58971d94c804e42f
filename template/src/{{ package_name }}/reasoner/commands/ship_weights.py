"""From a run to an entry of the weights that ship."""

from typing import Any

from ...engine.errors import RefusedInputError
from ...engine.evaluation.predictions import validation_scores
from ...engine.project import Project
from ...engine.training.checkpoint import load_weights, weights_sha256
from ...engine.training.trained_run import OpenRun, open_run
from ..tasks.puzzles import PuzzleTask
from ..tasks.shipped import Shipped, ship


def ship_run(project: Project, run: str, name: str | None) -> Shipped:
    """Copy the best weights of `run` into the package as `name`, by default its preset's.

    Raises RefusedInputError for a run that is not finished, is not on puzzles, or whose model is
    not that of its preset: nobody could build it without the run.
    """
    opened = open_run(project, run)
    facts, task = opened.manifest.data, opened.task
    if not isinstance(task, PuzzleTask):
        raise RefusedInputError(f"{run} is a run of the task {task.name!r}, which has no puzzles")
    if facts["status"] != "finished" or facts["best"] is None:
        raise RefusedInputError(
            f"{run} is {facts['status']}: weights ship once their run is finished"
        )
    preset = facts["preset"]
    task_type = project.task_type(facts["task"])
    make = task_type.presets.get(preset)
    theirs: Any = make and task_type(make())
    if make is None or theirs.model_config_sha256() != task.model_config_sha256():
        raise RefusedInputError(
            f"{run} has another model than the preset {preset!r}: give the model a preset of its "
            "own, and train that"
        )
    tensors, step = load_weights(opened.run_dir, "best")
    scores = validation_scores(opened.manifest, "best")
    return ship(
        name or preset,
        tensors,
        {
            "task": facts["task"],
            "preset": preset,
            **task.facts(),
            "threshold": scores["threshold"],
            "trained": _origin(opened, weights_sha256(tensors), step, scores),
        },
    )


def _origin(opened: OpenRun, weights: str, step: int, scores: dict[str, float]) -> dict[str, Any]:
    facts = opened.manifest.data
    return {
        "steps": facts["steps"],
        "best_step": step,
        "weights": facts["best"]["weights"],
        "seed": facts["seed"],
        "data_fingerprint": facts["data_fingerprint"],
        "weights_sha256": weights,
        "torch": facts["environment"]["torch"],
        "validation": {name: round(value, 6) for name, value in scores.items()},
    }
