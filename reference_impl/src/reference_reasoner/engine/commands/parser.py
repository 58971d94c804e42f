"""What the commands share: their name, and a parser that refuses in one sentence."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..atomic_write import unwritable
from ..config.fields import suggestion
from ..errors import RefusedInputError

PROG = __name__.partition(".")[0]
"""The package's name, which is that of its command."""


class Parser(argparse.ArgumentParser):
    """The parser of one command. Says what is wrong in one sentence, with exit code 2."""

    def __init__(self, command: str, **kwargs: Any) -> None:
        super().__init__(prog=f"{PROG} {command}", allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line, and name the help that shows how it is called."""
        raise RefusedInputError(f"{message}; `{self.prog} --help` shows how it is called")

    def parse_strictly(self, argv: Sequence[str]) -> argparse.Namespace:
        """As parse_args, but a mistyped flag gets the name of the nearest one."""
        flags, rest = self.parse_known_args(argv)
        if rest:
            near = suggestion(rest[0], self.flag_names())
            self.error(f"unknown argument {rest[0]}{near}")
        return flags

    def check_output(self, flag: str, path: Path | None) -> None:
        """Refuse a file to write, where there is a flag for one, that cannot be written."""
        if path is not None and (problem := unwritable(path)):
            self.error(f"{flag} {path}: {problem}")

    def flag_names(self) -> list[str]:
        """List every flag of the parser that starts with two dashes."""
        return [f for a in self._actions for f in a.option_strings if f.startswith("--")]
