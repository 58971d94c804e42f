"""What a piece of evidence is, which machine it is true of, and which folder it goes to."""

import argparse
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Line:
    """One requirement and what came out."""

    claim: str
    required: str
    measured: str
    holds: bool | None
    """None where nothing is required."""


def folder_for_output(parser: argparse.ArgumentParser, flag: str, path: Path) -> Path:
    """The folder, made where it is not there; leaves with 2 where nothing can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        # root may write everywhere by its permissions, so only writing tells: into /proc, say
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        parser.error(f"{flag} {path}: no output can be written there: {error.strerror or error}")
    return path


def check_file_for_output(parser: argparse.ArgumentParser, flag: str, path: Path | None) -> None:
    """Leave with 2 where a file is asked for and its folder is not there or takes none."""
    if path is None:
        return
    if not path.parent.is_dir():
        parser.error(f"{flag} {path}: there is no folder {path.parent}")
    folder_for_output(parser, flag, path.parent)


def machine() -> dict[str, Any]:
    """What the times are true of."""
    return {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()}


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
