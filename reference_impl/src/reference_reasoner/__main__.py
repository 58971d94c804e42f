"""The entry point: `python -m` and the installed command hand the project to the engine."""

import sys
from collections.abc import Sequence

from . import project
from .engine.command_line import run_command
from .engine.project import Project


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command of the engine's or the project's and return its exit code."""
    return run_command(argv, Project.of(project))


if __name__ == "__main__":
    sys.exit(main())
