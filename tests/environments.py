"""An environment for a rendered project, in two seconds: an overlay on the one we run in.

The overlay has scripts and metadata of its own and sees our packages through a .pth file, so
that torch is installed once, whatever the number of projects.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path


def overlay(project: Path) -> Path:
    """Make `<project>/.venv`, install the project in it, and return its `bin` folder.

    The project's declared dependencies must be satisfied by what we have; its build tools too.
    """
    folder = project / ".venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)], project)
    python = folder / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(run(asked, project).strip())
    (own / "_shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    install = ["install", "--no-deps", "--no-build-isolation", "--editable", str(project)]
    run([*pip, "--python", str(python), *install], project)
    return folder / "bin"


def run(
    command: list[str], folder: Path, *, env: Mapping[str, str] | None = None, code: int = 0
) -> str:
    """Run `command` in `folder`, expect the exit code, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(os.environ) if env is None else dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == code, (
        f"{' '.join(command)} left with {done.returncode}\n{done.stdout}"
    )
    return done.stdout
