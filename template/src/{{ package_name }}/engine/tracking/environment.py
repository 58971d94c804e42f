"""What a run was made with: code, libraries, hardware."""

import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from ..project import project_root

_LONGEST_DIFF = 1 << 20


def environment() -> dict[str, Any]:
    """Versions, hardware and the state of the code, as JSON values; null where unknown."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "driver": _driver() if cuda else None,
        "gpu": torch.cuda.get_device_name(0) if cuda else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "packages": _packages(),
        "git": _git(project_root()),
        "template": _template(project_root()),
    }


@functools.cache  # reading every package's metadata takes longer than a short run
def _packages() -> dict[str, str]:
    found = (distribution.metadata for distribution in importlib.metadata.distributions())
    return dict(sorted((each["Name"], each["Version"]) for each in found if each["Name"]))


def _driver() -> str | None:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.splitlines()[0].strip()


def _git(root: Path) -> dict[str, Any] | None:
    """Commit and uncommitted changes, only where `root` is the root of its own repository."""
    top = _ask_git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top.strip()).resolve() != root.resolve():
        return None
    commit = _ask_git(root, "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _ask_git(root, "diff", "HEAD") or ""
    untracked = (_ask_git(root, "ls-files", "--others", "--exclude-standard") or "").splitlines()
    return {
        "commit": commit.strip(),
        "dirty": bool(diff or untracked),
        "diff": diff[:_LONGEST_DIFF],
        "diff_is_cut": len(diff) > _LONGEST_DIFF,
        "untracked": untracked,
    }


def _ask_git(root: Path, *words: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.decode(errors="replace")


def _template(root: Path) -> str | None:
    """The version of the template that the project was last rendered from."""
    answers = root / ".copier-answers.yml"
    if not answers.is_file():
        return None
    lines = answers.read_text(encoding="utf-8").splitlines()
    found = [line.removeprefix("_commit:").strip() for line in lines if line.startswith("_commit:")]
    return found[0] if found else None
