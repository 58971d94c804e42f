"""What a user does first, from this checkout: render, install, and run something of it.

`python -m tests.demo` trains on real data, evaluates and reports; `python -m tests.demo SESSION
[ARGUMENT...]` runs that session of the rendered noxfile.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .environments import overlay

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "demo"
PACKAGE = "my_experiment"


def main(arguments: Sequence[str]) -> int:
    """Do it in demo/, which is made anew, and return the exit code of what was run."""
    shutil.rmtree(DEMO, ignore_errors=True)
    copier = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults"]
    # without --vcs-ref a local path renders the newest tag, not this checkout
    subprocess.run([*copier, "--vcs-ref", "HEAD", str(ROOT), str(DEMO)], check=True)
    scripts = overlay(DEMO)
    return run_session(scripts, arguments) if arguments else train_and_report(scripts)


def train_and_report(scripts: Path) -> int:
    """Train, evaluate and report with the defaults."""
    run_dir = "runs/0001"
    for command in (["train"], ["evaluate", run_dir], ["report", run_dir]):
        print(f"$ {PACKAGE} {' '.join(command)}", flush=True)
        subprocess.run([str(scripts / PACKAGE), *command], cwd=DEMO, check=True)
    print(f"\nThe report with its pictures: {DEMO / run_dir / 'report' / 'report.html'}")
    return 0


def run_session(scripts: Path, arguments: Sequence[str]) -> int:
    """Run a session of the rendered noxfile in the environment that is there already."""
    session, *rest = arguments
    nox = [str(scripts / "python"), "-m", "nox", "--no-venv", "--no-install", "--session", session]
    path = os.pathsep.join([str(scripts), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path}
    return subprocess.run([*nox, "--", *rest], cwd=DEMO, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
