"""Where a project keeps what its commands leave behind."""

import tempfile
from pathlib import Path


def project_root() -> Path:
    """The nearest folder at or above the working directory that holds a pyproject.toml.

    Without one, the working directory itself.
    """
    here = Path.cwd()
    return next((p for p in (here, *here.parents) if (p / "pyproject.toml").is_file()), here)


def runs_folder() -> Path:
    """`runs/` at the project's root, whether or not it exists."""
    return project_root() / "runs"


def unwritable(path: Path) -> str | None:
    """Why no file can be written there, or None; for asking before there is anything to write."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}"
    if path.is_dir():
        return "it is a folder"
    if path.exists() and not path.is_file():
        return None  # a pipe, say
    try:
        # permissions do not tell: root has all of them, and yet nobody writes into /proc
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        return f"no file can be written in {path.parent}: {error.strerror or error}"
    return None
