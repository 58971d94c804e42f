"""The weights that `solve` works with: those of a run, or those that ship with the package."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from ..errors import RefusedInputError
from ..evaluation.evaluate import validation_scores
from ..loading import load_model, load_task_type, open_run
from ..paths import runs_folder
from ..tasks.puzzles import PuzzleTask
from ..tasks.shipped import Shipped, shipped_weights
from ..tasks.solving import BatchSolver
from ..tracking.run_directory import list_runs
from ..training.device import choose_device


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model in eval mode, and what goes with it."""

    task: PuzzleTask[Any]
    model: nn.Module
    sizes: Sequence[int]
    """Rows of the puzzles that it can do."""
    threshold: float
    """Tuned on validation while it trained."""
    described: str
    """Where the weights are from, in one line."""

    @cached_property
    def solver(self) -> BatchSolver:
        """What solves all batches: it keeps what it has recorded on a GPU."""
        return BatchSolver(self.model)

    @property
    def max_steps(self) -> int:
        """Supervision steps after which it stopped in training."""
        return self.task.reasoner.halting.max_steps


def trained_weights(run: str | None) -> list[Trained]:
    """The weights of `run`; by default of the newest run on puzzles, else those that ship.

    Raises RefusedInputError for a run on something else, for weights that were trained with
    another model configuration than the one at hand, and where there are none.
    """
    name = run if run is not None else _newest()
    if name is not None:
        return [_of_run(name)]
    found = [_of_package(each) for each in shipped_weights()]
    if not found:
        raise RefusedInputError(
            "there is no run on puzzles yet, and no weights ship with this package: train one "
            "with `train --preset default`, or name one with --run"
        )
    return found


def _newest() -> str | None:
    runs = [
        run
        for run in list_runs(runs_folder())
        if (run.get("task_facts") or {}).get("sizes") and run.get("best")
    ]
    return str(runs[-1]["path"]) if runs else None


def _of_run(name: str) -> Trained:
    opened = open_run(name)
    task = opened.task
    if not isinstance(task, PuzzleTask):
        raise RefusedInputError(
            f"{name} is a run of the task {task.name!r}, which has no puzzles: name another"
        )
    facts = opened.manifest.data.get("task_facts", {})
    _check(task, facts.get("model_config_sha256"), f"{name}: its run.json", "config.toml")
    model, _ = load_model(name)
    task.use_validation(validation_scores(opened.manifest, "best"))
    return _trained(task, model, facts["sizes"], str(opened.run_dir))


def _of_package(shipped: Shipped) -> Trained:
    task_type = load_task_type(shipped.task)
    task = task_type(task_type.presets[shipped.preset]())
    if not isinstance(task, PuzzleTask):
        raise RefusedInputError(f"{shipped.name} is of the task {task.name!r}, not of puzzles")
    what = f"{shipped.name}, which ships with this package: its manifest"
    _check(task, shipped.model_config_sha256, what, f"the preset {shipped.preset!r}")
    model = task.build_model()
    model.load_state_dict(shipped.tensors())
    task.use_validation({"threshold": shipped.threshold})
    model = model.to(choose_device(task.config.runtime)).eval()
    return _trained(task, model, shipped.sizes, f"{shipped.name} of this package")


def _check(task: PuzzleTask[Any], trained: str | None, what: str, where: str) -> None:
    here = task.model_config_sha256()
    if trained != here:
        raise RefusedInputError(
            f"{what} says that the weights are of the model configuration "
            f"{str(trained)[:12]}, but {where} gives {here[:12]}: undo the change, or train again"
        )


def _trained(task: PuzzleTask[Any], model: nn.Module, sizes: Sequence[int], source: str) -> Trained:
    listed = ", ".join(f"{size} x {size}" for size in sizes)
    described = f"{source}: {task.name} {listed}, stops at a confidence of {task.threshold:.2f}"
    return Trained(
        task=task, model=model, sizes=sizes, threshold=task.threshold, described=described
    )
