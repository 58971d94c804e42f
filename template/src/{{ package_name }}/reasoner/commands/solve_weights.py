"""The weights that `solve` works with: those of a run, or those that ship with the package."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

from torch import nn

from ...engine.errors import RefusedInputError
from ...engine.evaluation.predictions import validation_scores
from ...engine.project import Project, runs_folder
from ...engine.tracking.run_directory import find_run, list_runs
from ...engine.training.device import choose_device
from ...engine.training.trained_run import load_model, open_run
from ..tasks.puzzles import PuzzleTask
from ..tasks.shipped import Shipped, shipped_weights
from ..tasks.solving import BatchSolver


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Trained weights to solve puzzles with: a model in eval mode, its task and its threshold."""

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
        """The solver of all batches with these weights: it keeps what it has recorded on a GPU."""
        return BatchSolver(self.model)

    @property
    def max_steps(self) -> int:
        """Supervision steps after which these weights' model stopped in training."""
        return self.task.reasoner.halting.max_steps


@dataclass(frozen=True, kw_only=True)
class Source:
    """Weights that can be had."""

    task_type: type[PuzzleTask[Any]]
    sizes: Sequence[int]
    """Rows of the puzzles that they can do."""
    load: Callable[[], Trained]

    @cached_property
    def trained(self) -> Trained:
        """The weights, loaded once.

        Raises RefusedInputError for such as were trained with another model configuration than
        the one at hand.
        """
        return self.load()


def sources(project: Project, run: str | None) -> list[Source]:
    """List weights that can solve: `run`; by default all runs on puzzles, then what ships.

    Raises RefusedInputError where there is nothing, and for a run on something else.
    """
    if run is not None:
        return [_named(project, run)]
    found = _of_runs(project) + [_of_package(project, each) for each in shipped_weights()]
    if not found:
        raise RefusedInputError(
            "there is no run on puzzles yet, and no weights ship with this package: train one "
            "with `train --preset default`, or name one with --run"
        )
    return found


def trained_weights(project: Project, run: str | None) -> list[Trained]:
    """The weights of all `sources`."""
    return [source.trained for source in sources(project, run)]


def weights_for(
    project: Project, path: Path, file: IO[bytes], run: str | None
) -> tuple[PuzzleTask[Any], dict[int, Trained]]:
    """The task that reads the file, and {rows: the first weights in `sources` that can do it}.

    The task is the first that finds a puzzle, and the first of all where none does. Raises
    RefusedInputError where no size in the file can be done. The file is back at its beginning.
    """
    found = sources(project, run)
    task_types = list(dict.fromkeys(source.task_type for source in found))
    looked = ((each, _sizes_in(file, each)) for each in task_types)
    nothing: tuple[type[PuzzleTask[Any]], set[int]] = (task_types[0], set())
    task_type, sizes = next((each for each in looked if each[1]), nothing)
    firsts: dict[int, Source] = {}
    for source in found:
        if source.task_type is task_type:
            firsts = dict.fromkeys(source.sizes, source) | firsts
    if sizes and not sizes & firsts.keys():
        raise RefusedInputError(_undoable(project, path, run, task_type, sizes, firsts))
    by_size = {size: firsts[size].trained for size in sorted(sizes & firsts.keys())}
    return task_type(task_type.config_type()), by_size


def _sizes_in(file: IO[bytes], task_type: type[PuzzleTask[Any]]) -> set[int]:
    reader = task_type(task_type.config_type())
    sizes = {given.size for given in reader.given(file) if not given.problem}
    file.seek(0)
    return sizes


def _undoable(
    project: Project,
    path: Path,
    run: str | None,
    task_type: type[PuzzleTask[Any]],
    wanted: Collection[int],
    able: Collection[int],
) -> str:
    """Say what to do about a file with puzzle sizes that no weights can solve."""
    own = {k: task_type.presets[k] for k in project.presets_of(task_type.name)}
    presets = [name for name, preset in own.items() if task_type(preset()).size in wanted]
    train = f"train a preset of that size ({', '.join(presets) or 'there is none yet'})"
    holds = f"{path} holds puzzles of {_listed(wanted)}"
    if run is not None:
        return (
            f"{holds}, and {run} does {_listed(able)}: name another with --run, leave --run out, "
            f"or {train}"
        )
    return (
        f"{holds}, and the runs and the weights that ship do {_listed(able)}: {train}, or name a "
        "run with --run"
    )


def _listed(sizes: Collection[int]) -> str:
    return ", ".join(f"{size} x {size}" for size in sorted(sizes))


def _of_runs(project: Project) -> list[Source]:
    """List the runs below runs/ whose weights may solve puzzles and were scored, newest first."""
    found = []
    for facts in reversed(list_runs(runs_folder())):
        sizes = (facts.get("task_facts") or {}).get("sizes")
        if not sizes or not facts.get("best") or facts["task"] not in project.tasks:
            continue
        task_type = project.task_type(facts["task"])
        if issubclass(task_type, PuzzleTask):
            load = partial(_load_run, project, facts["path"])
            found.append(Source(task_type=task_type, sizes=sizes, load=load))
    return found


def _named(project: Project, name: str) -> Source:
    """Find the weights to solve with by name: a run's, or else weights that ship."""
    try:
        path = str(find_run(name))
    except RefusedInputError as error:
        shipped = {each.name: each for each in shipped_weights()}
        if name not in shipped:
            known = ", ".join(shipped) or "nothing"
            raise RefusedInputError(f"{error}; what ships: {known}") from error
        return _of_package(project, shipped[name])
    task = open_run(project, path).task
    if not isinstance(task, PuzzleTask):
        raise RefusedInputError(
            f"{name} is a run of the task {task.name!r}, which has no puzzles: name another"
        )
    load = partial(_load_run, project, path)
    return Source(task_type=type(task), sizes=task.facts()["sizes"], load=load)


def _load_run(project: Project, name: str) -> Trained:
    opened = open_run(project, name)
    task: Any = opened.task
    facts = opened.manifest.data.get("task_facts", {})
    _check(task, facts.get("model_config_sha256"), f"{name}: its run.json", "config.toml")
    model, _ = load_model(project, name)
    task.use_validation(validation_scores(opened.manifest, "best"))
    return _trained(task, model, facts["sizes"], str(opened.run_dir))


def _of_package(project: Project, shipped: Shipped) -> Source:
    task_type = project.task_type(shipped.task)
    if not issubclass(task_type, PuzzleTask):
        raise RefusedInputError(f"{shipped.name} is of the task {shipped.task!r}, not of puzzles")
    load = partial(_load_shipped, shipped, task_type)
    return Source(task_type=task_type, sizes=shipped.sizes, load=load)


def _load_shipped(shipped: Shipped, task_type: type[PuzzleTask[Any]]) -> Trained:
    task = task_type(task_type.presets[shipped.preset]())
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
    does = f"{task.name} {_listed(sizes)}"
    described = f"{source}: {does}, stops at a confidence of {task.threshold:.2f}"
    return Trained(
        task=task, model=model, sizes=sizes, threshold=task.threshold, described=described
    )
