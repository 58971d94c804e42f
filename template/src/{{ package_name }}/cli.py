"""The command line: reads what is asked, calls what does it, says how it went.

Exit codes: 0 done, 1 failed, 2 refused input, 3 not comparable, 143 and 130 left on a signal.
What a command needs is imported when it is called, so that `--help` does not wait for torch.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .config_fields import suggestion
from .errors import RefusedInputError, RunFailedError
from .project import COMMANDS as PROJECT_COMMANDS
from .project import PRESETS

PROG = __package__ or "project"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(prog=f"{PROG} {command}", allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise RefusedInputError(f"{message}; `{self.prog} --help` shows how it is called")

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        """As parse_args, but a mistyped flag gets the name of the nearest one."""
        flags, rest = self.parse_known_args(argv)
        if rest:
            near = suggestion(rest[0], self.flag_names())
            self.error(f"unknown argument {rest[0]}{near}")
        return flags

    def flag_names(self) -> list[str]:
        """Every flag that starts with two dashes."""
        return [f for a in self._actions for f in a.option_strings if f.startswith("--")]


def train_command(argv: Sequence[str]) -> int:
    """`train`: train a new run, or go on with one."""
    parser = _train_parser()
    flags, config_flags = parser.parse_known_args(argv)

    from .evaluation.evaluator import make_evaluator
    from .tracking.run_directory import find_run, resolve
    from .train_config import choose
    from .training.request import TrainRequest
    from .training.session import train

    if flags.help:
        from .cli_config import config_help

        print(parser.format_help())
        print(config_help(choose(flags, [], ()).sourced.config))
        return 0
    flags.run_dir = resolve(flags.run_dir, flags.resume)
    chosen = choose(flags, config_flags, parser.flag_names())
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


def _train_parser() -> _Parser:
    parser = _Parser("train", add_help=False, description="Train a new run, or go on with one.")
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="show this, and every --section.field")
    add("--preset", metavar="NAME", help=f"start from a preset: {', '.join(PRESETS)}")
    add("--config", type=Path, metavar="FILE", help="a TOML file; wins over the preset")
    add("--run-dir", type=Path, metavar="DIR", help="where to write; default: runs/<next number>")
    add("--resume", action="store_true", help="go on from the newest good checkpoint, or start")
    add("--extend-to", type=int, metavar="STEPS", help="with --resume: train up to STEPS")
    add("--init-from", metavar="RUN", help="start with the best weights of another run")
    add("--print-config", action="store_true", help="show each value and its source; no training")
    return parser


def evaluate_command(argv: Sequence[str]) -> int:
    """`evaluate`: score a run, with intervals."""
    parser = _Parser("evaluate", description="Score a run, with 95 %% bootstrap intervals.")
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    parser.add_argument("--again", metavar="REASON", help="open the test split once more")
    flags = parser.parse_strictly(argv)
    if flags.json is not None and not flags.json.parent.is_dir():
        parser.error(f"--json {flags.json}: there is no folder {flags.json.parent}")

    from .evaluation.evaluate import evaluate_run, scores_table
    from .loading import open_run
    from .tracking.manifest import replace_text

    run = open_run(flags.run)
    result = evaluate_run(
        run.task,
        run.run_dir,
        run.manifest,
        split=flags.split,
        which=flags.checkpoint,
        again=flags.again,
    )
    print(scores_table(result))
    if flags.json is not None:
        replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    return 0


def report_command(argv: Sequence[str]) -> int:
    """`report`: one HTML page about a run."""
    parser = _Parser("report", description="Write one self-contained HTML page about a run.")
    parser.add_argument("run", metavar="RUN", help="a run directory, or its name below runs/")
    flags = parser.parse_strictly(argv)

    from .evaluation.report import write_report
    from .loading import open_run

    run = open_run(flags.run)
    print(write_report(run.task, run.run_dir, run.manifest))
    return 0


def runs_command(argv: Sequence[str]) -> int:
    """`runs`: every run of the project."""
    parser = _Parser("runs", description="List every run below runs/.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    flags = parser.parse_strictly(argv)

    from .paths import runs_folder
    from .tracking.run_directory import list_runs
    from .tracking.runs_table import runs_table, summary

    runs = list_runs(runs_folder())
    print(json.dumps([summary(run) for run in runs], indent=2) if flags.json else runs_table(runs))
    return 0


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "train": (train_command, "train a new run, or go on with one"),
    "evaluate": (evaluate_command, "score a run, with intervals"),
    "report": (report_command, "write one HTML page about a run"),
    "runs": (runs_command, "list every run"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        return _dispatch(sys.argv[1:] if argv is None else list(argv))
    except RefusedInputError as error:
        code, text = 2, str(error)
    except RunFailedError as error:
        code, text = 1, str(error)
    except KeyboardInterrupt:
        code, text = 130, "interrupted"
    print(f"{PROG}: {' '.join(text.split())}", file=sys.stderr)
    return code


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    if command in PROJECT_COMMANDS:
        module, _, function = PROJECT_COMMANDS[command][0].partition(":")
        return int(getattr(importlib.import_module(module, __package__), function)(rest))
    if command not in COMMANDS:
        known = [*COMMANDS, *PROJECT_COMMANDS]
        raise RefusedInputError(
            f"there is no command {command!r}{suggestion(command, known)} "
            f"(known: {', '.join(known)})"
        )
    try:
        return COMMANDS[command][0](rest)
    except SystemExit as left:  # argparse leaves so after its help
        return int(left.code or 0)


def _overview() -> str:
    lines = [f"usage: {PROG} COMMAND ...", ""]
    helps = {name: text for name, (_, text) in (*COMMANDS.items(), *PROJECT_COMMANDS.items())}
    lines += [f"  {name:<12}{text}" for name, text in helps.items()]
    return "\n".join([*lines, "", f"`{PROG} COMMAND --help` says more."])
