"""The command line of this very project, as `CommandLine` of the toy is of the toy's."""

from pathlib import Path

import pytest

from reference_reasoner import project as own
from reference_reasoner.engine.project import Project

from ..engine.toy import command_line

OWN = Project.of(own)


class CommandLine(command_line.CommandLine):
    """Calls commands of the package's own project.py in this process."""

    def __init__(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(project, capsys, OWN)
