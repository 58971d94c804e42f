"""`doctor`: the proofs of REPRODUCIBILITY.md that can run here."""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..command_line import PROG, Parser
from ..errors import RunFailedError
from ..project import PRESETS, TASKS

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..tracking.manifest import RunManifest
    from ..verification.items import Outcome


def main(argv: Sequence[str]) -> int:
    """Run the items, print a line for each; raises RunFailedError naming those that failed."""
    parser = Parser(
        "doctor",
        description="Run the proofs of REPRODUCIBILITY.md that can run here, on the task's smoke "
        "preset in a temporary folder, and look whether a run's files are whole.",
    )
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="the run to look at; default: the newest"
    )
    parser.add_argument(
        "--model",
        action="store_true",
        help="instead: what a model can get wrong, tried on that of RUN or of the default task",
    )
    flags = parser.parse_strictly(argv)

    from ..verification.doctor import failures

    run = _run(flags)
    failed = failures(_examine_model(run) if flags.model else _examine(run))
    if failed:
        raise RunFailedError(f"the doctor found something: {failed}; see the lines above")
    return 0


def _run(flags: argparse.Namespace) -> "RunManifest | None":
    from ..paths import runs_folder
    from ..tracking.manifest import RunManifest
    from ..tracking.run_directory import find_run, list_runs

    if flags.run is not None:
        return RunManifest.load(find_run(flags.run))
    known = [run for run in list_runs(runs_folder()) if run.get("task") in TASKS]
    return RunManifest.load(Path(known[-1]["path"])) if known and not flags.model else None


def _examine(run: "RunManifest | None") -> "list[Outcome]":
    from ..evaluation.evaluator import make_evaluator
    from ..loading import load_task_type
    from ..verification.doctor import examine

    name = run.data["task"] if run else next(iter(TASKS))
    preset = next(preset for preset, task in PRESETS.items() if task == name)

    def launch(config: "RunConfig", run_dir: Path, variables: Mapping[str, str]) -> int:
        return train_in_a_process(preset, config, run_dir, variables)

    return examine(
        name,
        load_task_type(name),
        run,
        make_evaluator=make_evaluator,
        launch=launch,
        say=_say,
    )


def _say(line: str) -> None:
    print(line, flush=True)


def train_in_a_process(
    preset: str, config: "RunConfig", run_dir: Path, variables: Mapping[str, str]
) -> int:
    """`train --resume` in a process of its own; its exit code, negative for a signal."""
    from ..config_fields import to_toml

    told = run_dir.with_suffix(".toml")
    told.write_text(to_toml(config), encoding="utf-8")
    flags = ["--preset", preset, "--config", str(told), "--run-dir", str(run_dir), "--resume"]
    return subprocess.run(
        [sys.executable, "-m", PROG, "train", *flags],
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    ).returncode


def _examine_model(run: "RunManifest | None") -> "list[Outcome]":
    from ..loading import load_task_type, open_run
    from ..verification.doctor import say_all
    from ..verification.model_checks import model_items

    if run is not None:
        task = open_run(run.run_dir).task
    else:
        task_type = load_task_type(next(iter(TASKS)))
        task = task_type(task_type.presets["default"]())
    return say_all(model_items(task), _say)
