"""What a piece of evidence is, and which machine it is true of."""

import os
import platform
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
