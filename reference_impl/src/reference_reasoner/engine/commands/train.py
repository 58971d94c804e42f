"""`train`: train a new run, or go on with one."""

from collections.abc import Sequence
from pathlib import Path

from ..config.sources import config_help
from ..evaluation.validation import make_evaluator
from ..project import Project
from ..tracking.run_directory import find_run, resolve
from ..training.request import TrainRequest
from ..training.session import train
from .parser import Parser
from .train_config import choose


def main(argv: Sequence[str], project: Project) -> int:
    """Train as `argv` asks and return the exit code."""
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
