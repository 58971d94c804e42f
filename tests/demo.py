"""The main job, as a user would do it: render, install, train on real data, evaluate, report."""

import shutil
import subprocess
import sys
from pathlib import Path

from .environments import overlay

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "my_experiment"


def main() -> None:
    """Do it in demo/, which is made anew."""
    demo = ROOT / "demo"
    shutil.rmtree(demo, ignore_errors=True)
    copier = [sys.executable, "-m", "copier", "copy", "--quiet", "--defaults"]
    # without --vcs-ref a local path renders the newest tag, not this checkout
    subprocess.run([*copier, "--vcs-ref", "HEAD", str(ROOT), str(demo)], check=True)
    program = str(overlay(demo) / PACKAGE)
    run_dir = "runs/0001"
    for command in (["train"], ["evaluate", run_dir], ["report", run_dir]):
        print(f"$ {PACKAGE} {' '.join(command)}", flush=True)
        subprocess.run([program, *command], cwd=demo, check=True)
    print(f"\nThe report with its pictures: {demo / run_dir / 'report' / 'report.html'}")


if __name__ == "__main__":
    main()
