"""The command line: finds the module of a command, calls it, says how it went.

Exit codes: 0 done, 1 failed, 2 refused input, 3 not comparable, 143 and 130 left on a signal, 141
where nobody reads what is printed any more.
A command is imported when it is called, so that `--help` does not wait for torch.
"""

import atexit
import errno
import gc
import importlib
import os
import sys
from collections.abc import Sequence

from .commands.parser import PROG
from .config.fields import suggestion
from .errors import RefusedInputError, RunFailedError
from .project import Project

COMMANDS: dict[str, tuple[str, str]] = {
    "train": (".commands.train:main", "train a new run, or go on with one"),
    "evaluate": (".commands.evaluate:main", "score a run, with intervals"),
    "report": (".commands.report:main", "write one HTML page about a run"),
    "runs": (".commands.runs:main", "list every run"),
    "study": (".commands.study:main", "compare variations of a preset over several seeds"),
    "profile": (".commands.profile:main", "count and measure what a model costs"),
    "gpu_bench": (".commands.gpu_bench:main", "hold a preset against its budgets on a GPU"),
    "reproduce": (".commands.reproduce:main", "train a run again and compare bit for bit"),
    "replay": (".commands.replay:main", "take one step of a run once more and save it"),
    "doctor": (".commands.doctor:main", "run the proofs that can run here; --model: on your model"),
    "new": (".commands.new:main", "write a data set, a model, a task or tests to start from"),
}
"""{command: ("<module>:<function>", help)}, as the project's own in project.py."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def run_command(argv: Sequence[str] | None, project: Project) -> int:
    """Run one command and return its exit code; without `argv` that of the command line."""
    if argv is None:  # the process ends with it: no search for garbage among all of torch then
        atexit.register(gc.freeze)
    try:
        code = _dispatch(sys.argv[1:] if argv is None else list(argv), project)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `| head` has read enough; the interpreter would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except RefusedInputError as error:
        code, text = 2, str(error)
    except RunFailedError as error:
        code, text = 1, str(error)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        what = error.filename or "a file"
        code, text = 1, f"the disk is full: {what} could not be written; free some space, try again"
    except KeyboardInterrupt:
        code, text = 130, "interrupted"
    _tell(f"{PROG}: {' '.join(text.split())}")
    return code


def _tell(text: str) -> None:
    """On stderr, where somebody reads it; the exit code holds also where nobody does."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _dispatch(argv: list[str], project: Project) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(project))
        return 0 if argv else 2
    command, rest = argv[0], argv[1:]
    commands = {**COMMANDS, **project.commands}
    if command not in commands:
        raise RefusedInputError(
            f"there is no command {command!r}{suggestion(command, commands)} "
            f"(known: {', '.join(commands)})"
        )
    module, _, function = commands[command][0].partition(":")
    try:
        home = __package__ if commands[command] is COMMANDS.get(command) else project.package
        return int(getattr(importlib.import_module(module, home), function)(rest, project))
    except SystemExit as left:  # argparse leaves so after its help
        return int(left.code or 0)


def _overview(project: Project) -> str:
    lines = [f"usage: {PROG} COMMAND ...", ""]
    lines += [f"  {name:<12}{text}" for name, (_, text) in {**COMMANDS, **project.commands}.items()]
    return "\n".join([*lines, "", f"`{PROG} COMMAND --help` says more."])
