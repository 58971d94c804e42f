"""Training a run again, beside it, from its config.toml and run.json alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.fields import overlay
from ..config.run_config import RunConfig
from ..config.run_config import differences as config_differences
from ..errors import RefusedInputError, RunFailedError
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import is_in_use
from ..tracking.sinks import read_records
from ..training import checkpoint, parallel
from ..training.hashing import weights_sha256
from ..training.request import TrainRequest
from ..training.session import MakeEvaluator, train
from ..training.task import Task
from .comparison import closeness, differences
from .conditions import differing_conditions
from .trajectory import stretches, with_steps

SAME, DIFFERENT, NOT_COMPARABLE = 0, 1, 3
HASHES = ("weights_sha256", "state_sha256")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of training again."""

    exit_code: int
    """0 the same, 1 different, 3 not comparable bit for bit, 143 or 130 left on a signal."""
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A run, and where and how it is trained again."""

    original: RunManifest
    task: Task[Any]
    """With the config of the run's config.toml."""
    config: RunConfig
    """The same with what `reproduce` was told to change."""
    until: int
    beside: Path


def reproduce(
    original: RunManifest,
    task: Task[Any],
    make_evaluator: MakeEvaluator,
    *,
    until: int | None = None,
    threads: int | None = None,
) -> Verdict:
    """Train the run again, up to step `until` or as far as it went, and compare.

    Raises RefusedInputError for a run in use, or a step that it never reached, and
    RunFailedError where training fails now and did not before.
    """
    if is_in_use(original.run_dir):
        raise RefusedInputError(f"{original.run_dir} is still training: wait until it has ended")
    config = task.config
    if threads is not None:
        config = overlay(config, {"runtime.threads": threads}, "--threads")
    told = Reproduction(
        original=original,
        task=task,
        config=config,
        until=_until(original, config, until),
        beside=_free_folder(original.run_dir),
    )
    changed = edited_fields(told)
    problem = _data_problem(told)
    if problem is not None:
        return Verdict(exit_code=DIFFERENT, lines=(*changed, f"different: {problem}"))
    code, error = _train_again(told, make_evaluator)
    if code:
        line = f"no verdict: {told.beside} was stopped by a signal before step {told.until}"
        return Verdict(exit_code=code, lines=(line,))
    return _compare(told, changed, error)


def _until(original: RunManifest, config: RunConfig, asked: int | None) -> int:
    """The step to train up to: as asked, or where the run ended."""
    facts = original.data
    last = max((r["step"] for r in read_records(original.run_dir / "metrics.jsonl")), default=0)
    furthest = last if facts["stop_step"] is None else facts["stop_step"]
    if facts["status"] == "failed":  # in a step between its last record and the next one
        furthest = min(config.training.steps, last + config.tracking.log_every_steps)
    if furthest == 0 or (asked is not None and not 1 <= asked <= furthest):
        said = "" if asked is None else f"--until {asked}: "
        raise RefusedInputError(
            f"{said}{original.run_dir} can be reproduced from step 1 up to step {furthest}, where "
            "it ended"
        )
    return asked or int(furthest)


def _free_folder(run_dir: Path) -> Path:
    name = f"{run_dir.resolve().name}-reproduced"
    taken = 1
    while (
        beside := run_dir.resolve().parent / (name if taken == 1 else f"{name}-{taken}")
    ).exists():
        taken += 1
    return beside


def edited_fields(told: Reproduction) -> tuple[str, ...]:
    """A line for each setting of config.toml that the run's checkpoint was not made with."""
    newest = checkpoint.newest(told.original.run_dir / "checkpoints").snapshot
    if newest is None:
        return ()
    was = overlay(told.config, newest.values["config"], "the run's checkpoint")
    now = told.task.config
    return tuple(
        f"config.toml was edited: {name} is {new!r}, and was {old!r} in the checkpoint of step "
        f"{newest.step}"
        for name, (old, new) in config_differences(was, now, "trajectory").items()
        if name != "training.steps"
    )


def _data_problem(told: Reproduction) -> str | None:
    """Why the data are not those that the run was trained on, if they are not."""
    try:
        now = told.task.datasets().fingerprint
    except RefusedInputError as error:
        return f"the data cannot be used any more: {error}"
    was = told.original.data["data_fingerprint"]
    return None if now == was else f"data_fingerprint: {was!r} in the run, {now!r} now"


def _train_again(told: Reproduction, make_evaluator: MakeEvaluator) -> tuple[int, str | None]:
    """Train stretch by stretch; the exit code, and the error where the run too had failed."""
    facts = told.original.data
    code = 0
    for number, stretch in enumerate(stretches(facts, told.until)):
        request = TrainRequest(
            task_name=facts["task"],
            task_type=type(told.task),
            preset=facts["preset"],
            config=with_steps(told.config, stretch.steps),
            run_dir=told.beside,
            resume=number > 0,
            extend_to=stretch.steps if number > 0 else None,
            init_from=_weights_to_start_from(facts) if number == 0 else None,
            stop_at=stretch.to_step,
            argv=("reproduce", str(told.original.run_dir)),
        )
        try:
            code = code or train(request, make_evaluator)
        except RunFailedError as error:
            if facts["status"] != "failed":
                raise
            return 0, str(error)
    return code, None


def _weights_to_start_from(facts: dict[str, Any]) -> Path | None:
    start = facts["initialised_from"]
    return Path(start) if start else None


def _compare(told: Reproduction, changed: tuple[str, ...], error: str | None) -> Verdict:
    facts, run_dir = told.original.data, told.original.run_dir
    recorded, again = (
        [r for r in read_records(folder / "metrics.jsonl") if r["step"] <= told.until]
        for folder in (run_dir, told.beside)
    )
    found = differences(recorded, again)
    unequal = [str(each) for each in found[:1]]
    hashes, compared = _unequal_hashes(told)
    unequal += hashes
    if facts["status"] == "failed" and facts["error"] != error:
        unequal.append(f"error: {facts['error']!r} in the run, {error!r} now")
    where = f"trained again up to step {told.until}: {told.beside}"
    conditions = differing_conditions(facts, told.config, environment(), parallel.current())
    if conditions:
        verdict = f"not comparable bit for bit: {'; '.join(conditions)}"
        lines = (where, *changed, verdict, closeness(found, len(recorded)), *hashes)
        return Verdict(exit_code=NOT_COMPARABLE, lines=lines)
    if unequal:
        close = closeness(found, len(recorded))
        lines = (where, *changed, f"different: {unequal[0]}", *unequal[1:], close)
        return Verdict(exit_code=DIFFERENT, lines=lines)
    verdict = f"same: {len(recorded)} records up to step {told.until}; {compared}"
    return Verdict(exit_code=SAME, lines=(where, *changed, verdict))


def _unequal_hashes(told: Reproduction) -> tuple[list[str], str]:
    """The hashes that differ, and which could be compared."""
    old, new = (hashes_at(folder, told.until) for folder in (told.original.run_dir, told.beside))
    names = [name for name in HASHES if name in old and name in new]
    unequal = [
        f"{name} at step {told.until}: {old[name][:12]} in the run, {new[name][:12]} now"
        for name in names
        if old[name] != new[name]
    ]
    if names:
        return unequal, f"{' and '.join(names)} of step {told.until} are equal"
    return [], f"no checkpoint of step {told.until} is kept whose weights could be compared"


def hashes_at(run_dir: Path, step: int) -> dict[str, str]:
    """Both hashes where the run ended at `step`, else that of the weights of a checkpoint there."""
    facts = RunManifest.load(run_dir).data
    if facts["stop_step"] == step:
        return {name: facts[name] for name in HASHES}
    folder = checkpoint.folder_of(run_dir / "checkpoints", step)
    try:
        return {"weights_sha256": weights_sha256(checkpoint.load(folder).groups["model"])}
    except checkpoint.DamagedError:
        return {}
