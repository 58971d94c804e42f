"""Training a run again, beside it, from its config.toml and run.json alone, and comparing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from ..config.fields import overlay
from ..config.run_config import RunConfig
from ..config.run_config import differences as config_differences
from ..errors import RefusedInputError, RunFailedError
from ..tracking.environment import environment
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import is_in_use
from ..tracking.sinks import Record, read_records
from ..training import checkpoint, parallel
from ..training.checkpoint import weights_sha256
from ..training.device import choose_device
from ..training.parallel import Ranks
from ..training.resume import TrainRequest, check_environment
from ..training.session import MakeEvaluator, train
from ..training.task import Task

SAME, DIFFERENT, NOT_COMPARABLE = 0, 1, 3
HASHES = ("weights_sha256", "state_sha256")
_ABSENT = "absent"
ConfigT = TypeVar("ConfigT", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of training a run again: the exit code and the lines that say why."""

    exit_code: int
    """0 the same, 1 different, 3 not comparable bit for bit, 143 or 130 left on a signal."""
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A run to reproduce, and where and how it is trained again."""

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
    """Train a run again beside it, up to step `until` or as far as it went, and compare.

    Raises RefusedInputError for a run in use, or a step that it never reached, and
    RunFailedError where training fails now and did not before.
    """
    run_dir = original.run_dir.resolve()
    if is_in_use(original.run_dir):
        raise RefusedInputError(f"{original.run_dir} is still training: wait until it has ended")
    config = task.config
    if threads is not None:
        config = overlay(config, {"runtime.threads": threads}, "--threads")
    until = _until(original, config, until)
    names = (f"{run_dir.name}-reproduced{'' if n == 1 else f'-{n}'}" for n in count(1))
    beside = next(path for path in map(run_dir.with_name, names) if not path.exists())
    told = Reproduction(original=original, task=task, config=config, until=until, beside=beside)
    changed = _edited_fields(told)
    problem = _data_problem(told)
    if problem is not None:
        return Verdict(exit_code=DIFFERENT, lines=(*changed, f"different: {problem}"))
    code, error = _train_again(told, make_evaluator)
    if code:
        line = f"no verdict: {told.beside} was stopped by a signal before step {told.until}"
        return Verdict(exit_code=code, lines=(line,))
    return _compare(told, changed, error)


def _until(original: RunManifest, config: RunConfig, asked: int | None) -> int:
    """The last step to reproduce: as asked, or where the run ended."""
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


def _edited_fields(told: Reproduction) -> tuple[str, ...]:
    """A line for each setting of config.toml that the run to reproduce was not trained with."""
    newest = checkpoint.newest(told.original.run_dir / "checkpoints").snapshot
    if newest is None:
        return ()
    was = overlay(told.config, newest.values["config"], "the run's checkpoint")
    edited = config_differences(was, told.task.config, "trajectory")
    return tuple(
        f"config.toml was edited: {name} is {new!r}, and was {old!r} in the checkpoint of step "
        f"{newest.step}"
        for name, (old, new) in edited.items()
        if name != "training.steps"
    )


def _data_problem(told: Reproduction) -> str | None:
    """Why the data to reproduce a run on are not those that it was trained on, if so."""
    try:
        now = told.task.datasets().fingerprint
    except RefusedInputError as error:
        return f"the data cannot be used any more: {error}"
    was = told.original.data["data_fingerprint"]
    return None if now == was else f"data_fingerprint: {was!r} in the run, {now!r} now"


def _train_again(told: Reproduction, make_evaluator: MakeEvaluator) -> tuple[int, str | None]:
    """Train a run again by stretches; the exit code, and the error where it had failed before."""
    code = 0
    facts, argv = told.original.data, ("reproduce", str(told.original.run_dir))
    for number, (last, planned) in enumerate(stretches(facts, told.until)):
        config = with_planned_steps(told.config, planned)
        request = request_again(told.original, told.task, config, told.beside)
        request = replace(request, stop_at=last, argv=argv)
        if number:
            request = replace(request, resume=True, extend_to=planned, init_from=None)
        try:
            code = code or train(request, make_evaluator)
        except RunFailedError as error:
            if facts["status"] != "failed":
                raise
            return 0, str(error)
    return code, None


def request_again(
    original: RunManifest, task: Task[Any], config: RunConfig, run_dir: Path
) -> TrainRequest:
    """The request to train a run again with `config` in `run_dir`, from the same first weights."""
    facts = original.data
    start = facts["initialised_from"]
    return TrainRequest(
        task_name=facts["task"],
        task_type=type(task),
        preset=facts["preset"],
        config=config,
        run_dir=run_dir,
        init_from=Path(start) if start else None,
    )


def stretches(facts: Mapping[str, Any], until: int) -> list[tuple[int, int]]:
    """(last step, planned steps) of each stretch to train again, between a run's extensions.

    Up to step `until`. `train --resume --extend-to` changes the number of steps, and with it the
    learning rate, from the step on at which it was asked for; run.json lists its `trajectories`.
    """
    trajectories = facts["trajectories"]
    begins = [0, *(each["from_step"] for each in trajectories[1:])]
    return [
        (min(end, until), each["steps"])
        for each, begin, end in zip(trajectories, begins, [*begins[1:], until], strict=True)
        if begin < until
    ]


def with_planned_steps(config: ConfigT, steps: int) -> ConfigT:
    """The config of one stretch of a run to train again, which plans `steps` steps."""
    return replace(config, training=replace(config.training, steps=steps))


def _compare(told: Reproduction, changed: tuple[str, ...], error: str | None) -> Verdict:
    facts, run_dir = told.original.data, told.original.run_dir
    recorded, again = (
        [r for r in read_records(folder / "metrics.jsonl") if r["step"] <= told.until]
        for folder in (run_dir, told.beside)
    )
    found = differences(recorded, again)
    close = closeness(found, len(recorded))
    hashes, compared = _unequal_hashes(told)
    unequal = [*(text for _, text in found[:1]), *hashes]
    if facts["status"] == "failed" and facts["error"] != error:
        unequal.append(f"error: {facts['error']!r} in the run, {error!r} now")
    head = (f"trained again up to step {told.until}: {told.beside}", *changed)
    conditions = differing_conditions(facts, told.config, environment(), parallel.current())
    if conditions:
        verdict = f"not comparable bit for bit: {'; '.join(conditions)}"
        return Verdict(exit_code=NOT_COMPARABLE, lines=(*head, verdict, close, *hashes))
    if unequal:
        lines = (*head, f"different: {unequal[0]}", *unequal[1:], close)
        return Verdict(exit_code=DIFFERENT, lines=lines)
    verdict = f"same: {len(recorded)} records up to step {told.until}; {compared}"
    return Verdict(exit_code=SAME, lines=(*head, verdict))


def differing_conditions(
    facts: dict[str, Any], config: RunConfig, environment: dict[str, Any], ranks: Ranks
) -> list[str]:
    """The conditions that keep a run and its reproduction from being comparable bit for bit.

    `facts` are the run.json of the run; `config`, `environment` and `ranks` those of the present.
    Torch version, kind of device, CPU capability, number of threads, determinism mode and compile
    flag must be the same, and all through the run: anything else changes the last bits.
    """
    device = choose_device(config.runtime).type
    pairs = {
        "threads": (facts["threads"], config.runtime.threads),
        "device": (facts["device"], device),
        "world_size": (facts["world_size"], ranks.world_size),
        **check_environment(facts["environment"], environment),
    }
    found = [f"{k} was {old!r}, now {new!r}" for k, (old, new) in pairs.items() if old != new]
    if device != "cpu" and config.runtime.determinism == "off":
        found.append("runtime.determinism is 'off'")
    for session in facts["sessions"]:
        found += [f"within the run {line.partition(':')[0]}" for line in session["warnings"]]
    return found


def differences(recorded: Sequence[Record], again: Sequence[Record]) -> list[tuple[float, str]]:
    """(relative size, text) of each field that differs when a run is trained again, in order.

    What only the second run wrote is no difference: it may have gone further, or have done what
    a signal kept the first from doing.
    """
    found = []
    others = {(record["step"], record["kind"]): record for record in again}
    for record in recorded:
        step, kind = record["step"], record["kind"]
        other = others.get((step, kind))
        pairs = [("record", "written", _ABSENT)] if other is None else fields(record, other)
        found += [
            (_relative(old, new), f"step {step}, {name} ({kind}): {old!r} in the run, {new!r} now")
            for name, old, new in pairs
            if old != new
        ]
    return found


def _relative(one: Any, two: Any) -> float:
    """|a - b| / max(|a|, |b|) of two runs' values that differ; infinite where one is no number."""
    if not all(isinstance(value, int | float) for value in (one, two)):
        return float("inf")
    return float(abs(one - two) / max(abs(one), abs(two)))


def fields(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(field, its value in each) of a run's record and its reproduction's, `wall_*` left out."""
    return [
        (name, one.get(name, _ABSENT), two.get(name, _ABSENT))
        for name in {**one, **two}
        if not name.startswith("wall_")
    ]


def closeness(found: Sequence[tuple[float, str]], records: int) -> str:
    """How close a run and its reproduction are, which wrote `records` records in common."""
    if not found:
        return f"how close: all {records} records are equal"
    size, text = max(found, key=lambda each: each[0])
    return (
        f"how close: {len(found)} fields in {records} records differ, the most by "
        f"{size:.1e} of its size: {text}"
    )


def _unequal_hashes(told: Reproduction) -> tuple[list[str], str]:
    """The hashes in which a run and its reproduction differ, and which could be compared."""
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
    """The hashes to reproduce: both of a run that ended at `step`, else a checkpoint's weights."""
    facts = RunManifest.load(run_dir).data
    if facts["stop_step"] == step:
        return {name: facts[name] for name in HASHES}
    folder = checkpoint.folder_of(run_dir / "checkpoints", step)
    try:
        return {"weights_sha256": weights_sha256(checkpoint.load(folder).groups["model"])}
    except checkpoint.DamagedError:
        return {}
