"""`train`: train a new run, or go on with one, with the task and config that are asked for."""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.fields import flatten
from ..config.run_config import RunConfig
from ..config.sources import Sourced, config_help
from ..evaluation.predictions import make_evaluator
from ..project import Project
from ..tracking.manifest import RunManifest
from ..tracking.run_directory import find_run, resolve
from ..training.resume import TrainRequest, saved_config
from ..training.session import train
from ..training.task import Task
from .parser import Parser


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `train` and return its exit code."""
    parser = _parser(project)
    flags, config_flags = parser.parse_known_args(argv)
    if flags.help:
        print(parser.format_help())
        print(config_help(choose(project, flags, [], ()).sourced.config))
        return 0
    flags.run_dir = resolve(flags.run_dir, flags.resume)
    chosen = choose(project, flags, config_flags, parser.flag_names())
    if flags.print_config:
        print(chosen.sourced.listing())
        return 0
    request = TrainRequest(
        task_name=chosen.task_name,
        task_type=chosen.task_type,
        preset=chosen.preset,
        config=chosen.sourced.config,
        run_dir=flags.run_dir,
        resume=flags.resume,
        extend_to=flags.extend_to,
        init_from=find_run(flags.init_from) if flags.init_from else None,
        argv=("train", *argv),
    )
    return train(request, make_evaluator)


def _parser(project: Project) -> Parser:
    parser = Parser("train", add_help=False, description="Train a new run, or go on with one.")
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this, and every --section.field")
    add("--preset", metavar="NAME", help=f"start from a preset: {', '.join(project.presets)}")
    add("--config", type=Path, metavar="FILE", help="a TOML file; wins over the preset")
    add("--run-dir", type=Path, metavar="DIR", help="where to write; default: runs/<next number>")
    add("--resume", action="store_true", help="go on from the newest good checkpoint, or start")
    add("--extend-to", type=int, metavar="STEPS", help="with --resume: train up to STEPS")
    add("--init-from", metavar="RUN", help="start with the best weights of another run")
    add("--print-config", action="store_true", help="show each value and its source; no training")
    return parser


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What to train."""

    task_name: str
    task_type: type[Task[Any]]
    preset: str | None
    sourced: Sourced


def choose(
    project: Project,
    flags: argparse.Namespace,
    config_flags: Sequence[str],
    own_flags: Iterable[str],
) -> Chosen:
    """Choose the config of `train`: a resumed run starts from its config.toml, not from a preset.

    The run's own preset, given again, is in that file already. Raises RefusedInputError where a
    name or a value cannot be used.
    """
    run = _run_to_resume(flags.run_dir) if flags.resume else None
    if flags.preset is not None:
        task_name = project.task_of_preset(flags.preset)
    else:
        task_name = run.data["task"] if run else project.default_task
    task_type = project.task_type(task_name)
    sourced = Sourced(config=task_type.config_type())
    if run is not None and run.data["task"] == task_name:
        sourced = _of_run(run, sourced.config)
    preset = flags.preset or (run.data["preset"] if run else "default")
    applied = run is None or (flags.preset is not None and flags.preset != run.data["preset"])
    if applied:
        sourced = sourced.with_preset(task_type.presets[preset](), preset)
    if flags.config is not None:
        sourced = sourced.with_file(flags.config)
    sourced = sourced.with_flags(config_flags, own_flags)
    return Chosen(task_name=task_name, task_type=task_type, preset=preset, sourced=sourced)


def _of_run(run: RunManifest, plain: RunConfig) -> Sourced:
    saved, defaults = saved_config(run, plain), flatten(plain)
    source = str(run.run_dir / "config.toml")
    changed = [name for name, value in flatten(saved).items() if value != defaults[name]]
    return Sourced(config=saved, sources=dict.fromkeys(changed, source))


def _run_to_resume(run_dir: Path) -> RunManifest | None:
    return RunManifest.load(run_dir) if (run_dir / "run.json").exists() else None
