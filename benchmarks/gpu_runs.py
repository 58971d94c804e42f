"""One model's run: trained by the project's `train` until a deadline, scored by its `evaluate`."""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .gpu_project import PACKAGE, SAVING_S, PieceError, Project, ending, shown
from .gpu_recipes import Recipe

STOPPED = 128 + signal.SIGTERM
POLL_S = 0.2
STRATA = ("guesses_0", "guesses_1_to_4", "guesses_5_up")
"""Strata of the validation and test puzzles, as the project names their scores."""
REASON = "one opening for all models of a comparison; nothing was chosen on it"


@dataclass(frozen=True, kw_only=True)
class Session:
    """One process of a training."""

    first_record: int
    """Records of the run that were there when it began."""
    to_step: int
    """Steps of the run when it ended."""
    device_seconds: float
    """Of the whole process: start, compilation, evaluations and saving too."""
    start_seconds: float
    """Until the loop began, of these."""
    saving_seconds: float
    """From SIGTERM to its end, of these."""


def train(
    project: Project,
    model: str,
    recipe: Recipe,
    more: Sequence[str],
    log: Path,
    *,
    seconds: float,
    from_loop: bool = False,
) -> dict[str, Any]:
    """Train for so many seconds, or go on with the run that is there.

    They count from now, or from when the loop began, as in rehearsals. The run gets SIGTERM at
    the deadline and saves. Returns what it did so far, over all its sessions. Raises PieceError
    where it ends in another way.
    """
    before = _sessions(project, model)
    words = [PACKAGE, "train", "--preset", recipe.preset, "--run-dir", f"runs/{model}"]
    going_on = (project.run_dir(model) / "run.json").exists()
    words += [*recipe.flags(), *more, *(["--resume"] if going_on else [])]
    seen = len(project.records(model))
    began = time.monotonic()
    process = project.start(*words, log=log)
    try:
        start_s = _wait(project, model, process, seen, seconds, from_loop)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=SAVING_S)
    except subprocess.TimeoutExpired as error:
        raise PieceError(f"{model} had not saved {SAVING_S:g} s after SIGTERM") from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    ended = time.monotonic()
    if code not in (0, STOPPED):  # its schedule may end before the deadline
        said = ending(log.read_text(encoding="utf-8", errors="replace"))
        raise PieceError(f"training {model} left with {code}, not 0 or {STOPPED}: {said}")
    session = Session(
        first_record=seen,
        to_step=_facts(project, model)["step"],
        device_seconds=ended - began,
        start_seconds=start_s,
        saving_seconds=ended - asked,
    )
    sessions = [*before, session]
    _sessions_file(project, model).write_text(json.dumps([asdict(each) for each in sessions]))
    return {
        "preset": recipe.preset,
        "command": shown(words),
        "resumed": going_on,
        "sessions": [asdict(each) for each in sessions],
        "device_seconds": sum(each.device_seconds for each in sessions),
        "steps": session.to_step,
        "curve": curve(project.records(model), sessions),
        "environment": _environment(project, model),
    }


def _wait(
    project: Project,
    model: str,
    process: "subprocess.Popen[bytes]",
    seen: int,
    seconds: float,
    from_loop: bool,
) -> float:
    """Wait for the deadline or the process's end; seconds from its start to its loop's."""
    began = time.monotonic()
    start_s: float | None = None
    while process.poll() is None:
        passed = time.monotonic() - began
        if start_s is None and len(records := project.records(model)) > seen:
            start_s = max(0.0, passed - records[seen]["wall_s"])
        if passed >= seconds and not from_loop:
            break
        if from_loop and start_s is not None and passed - start_s >= seconds:
            break
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=POLL_S)
    return time.monotonic() - began if start_s is None else start_s


def curve(
    records: Sequence[Mapping[str, Any]], sessions: Sequence[Session]
) -> list[dict[str, float]]:
    """Validation scores of the averaged weights against the device-seconds of all sessions."""
    points = []
    for index, record in enumerate(records):
        if record["kind"] != "evaluation":
            continue
        number = sum(each.first_record <= index for each in sessions) - 1
        earlier = sum(each.device_seconds for each in sessions[:number])
        point = {
            "device_seconds": earlier + sessions[number].start_seconds + record["wall_s"],
            "step": record["step"],
            "accuracy": record["ema/accuracy"],
        }
        for name in STRATA:
            if f"ema/accuracy_{name}" in record:
                point[name] = record[f"ema/accuracy_{name}"]
        points.append(point)
    return points


def evaluate(project: Project, model: str, *words: str) -> dict[str, Any]:
    """Scores, with intervals, of the averaged weights at the stop; `words` say on what."""
    path = project.folder / f"{model}-scores.json"
    path.unlink(missing_ok=True)
    command = [PACKAGE, "evaluate", model, "--checkpoint", "last", *words, "--json", str(path)]
    project.run(*command)
    result = json.loads(path.read_text(encoding="utf-8"))
    kept = ("step", "examples", "weights_sha256", "data_fingerprint", "scores")
    return {"command": shown(command), **{name: result[name] for name in kept if name in result}}


def openings(project: Project) -> list[dict[str, Any]]:
    """The ledger of the test split in the copy."""
    path = project.folder / "test_ledger.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _sessions_file(project: Project, model: str) -> Path:
    return project.folder / f"{model}-sessions.json"


def _sessions(project: Project, model: str) -> list[Session]:
    path = _sessions_file(project, model)
    if not path.exists():
        return []
    return [Session(**each) for each in json.loads(path.read_text(encoding="utf-8"))]


def _facts(project: Project, model: str) -> dict[str, Any]:
    path = project.run_dir(model) / "run.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _environment(project: Project, model: str) -> dict[str, Any]:
    known = _facts(project, model)["environment"]
    return {name: known[name] for name in ("python", "torch", "cuda", "driver", "gpu")}
