"""Where a project keeps what its commands leave behind."""

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
