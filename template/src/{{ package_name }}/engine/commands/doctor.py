"""`doctor`: the proofs of REPRODUCIBILITY.md that can run here."""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import RunFailedError
from ..project import Project, runs_folder
from .parser import Parser

if TYPE_CHECKING:
    from ..config.run_config import RunConfig
    from ..tracking.manifest import RunManifest
    from ..verification.doctor import Check, Examination, Outcome


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `doctor`, a line a check; raises RunFailedError naming those that failed."""
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

    run = _run(project, flags)
    failed = failures(_examine_model(project, run) if flags.model else _examine(project, run))
    if failed:
        raise RunFailedError(f"the doctor found something: {failed}; see the lines above")
    return 0


def _run(project: Project, flags: argparse.Namespace) -> "RunManifest | None":
    from ..tracking.manifest import RunManifest
    from ..tracking.run_directory import find_run, list_runs

    if flags.run is not None:
        return RunManifest.load(find_run(flags.run))
    known = [run for run in list_runs(runs_folder()) if run.get("task") in project.tasks]
    return RunManifest.load(Path(known[-1]["path"])) if known and not flags.model else None


def _examine(project: Project, run: "RunManifest | None") -> "list[Outcome]":
    from ..evaluation.predictions import make_evaluator
    from ..verification.doctor import Examination, examine

    name = run.data["task"] if run else project.default_task
    preset = project.presets_of(name)[0]

    def launch(config: "RunConfig", run_dir: Path, variables: Mapping[str, str]) -> int:
        return train_in_a_process(project, preset, config, run_dir, variables)

    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        exam = Examination(
            task_name=name,
            task_type=project.task_type(name),
            folder=Path(folder),
            make_evaluator=make_evaluator,
            launch=launch,
            run=run,
            budgets=project.budgets_path(name),
        )
        return examine(exam, all_checks(exam), _say)


def all_checks(exam: "Examination") -> "list[Check]":
    """Collect what the `doctor` command checks without `--model`, by REPRODUCIBILITY.md."""
    from ..verification.data_checks import checks_of_data
    from ..verification.run_checks import checks_of_run
    from ..verification.training_checks import checks_of_training

    return [*checks_of_data(exam), *checks_of_training(exam), *checks_of_run(exam)]


def _say(line: str) -> None:
    print(line, flush=True)


def train_in_a_process(
    project: Project,
    preset: str,
    config: "RunConfig",
    run_dir: Path,
    variables: Mapping[str, str],
) -> int:
    """Run `train --resume` in a process for the doctor; exit code, negative for a signal."""
    from ..config.fields import to_toml

    told = run_dir.with_suffix(".toml")
    told.write_text(to_toml(config), encoding="utf-8")
    flags = ["--preset", preset, "--config", str(told), "--run-dir", str(run_dir), "--resume"]
    return subprocess.run(
        project.command("train", *flags),
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
    ).returncode


def _examine_model(project: Project, run: "RunManifest | None") -> "list[Outcome]":
    from ..training.trained_run import open_run
    from ..verification.doctor import say_outcomes
    from ..verification.model_checks import checks_of_model

    if run is not None:
        task = open_run(project, run.run_dir).task
    else:
        task_type = project.task_type(project.default_task)
        task = task_type(task_type.presets["default"]())
    return say_outcomes(checks_of_model(task), _say)
