"""gpu_bench in a process that has torch and numpy, and little else of what a project needs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from reference_reasoner.engine.commands.parser import PROG

from ..toy.command_line import TOY

ROOT = Path(__file__).resolve().parents[3]
BLOCKED = ("nox", "tyro", "sklearn", "matplotlib", "safetensors", "tomli_w", "rich", "scipy")
SCRIPT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
program, preset = %r
sys.argv = ['gpu_bench', 'gpu_bench', '--preset', preset]
runpy.run_module(program, run_name='__main__', alter_sys=True)
"""


def bench_on_a_bare_machine(folder: Path, preset: str) -> tuple[dict[str, Any], str]:
    """What gpu_bench.json holds and what was printed, for a preset of the project or `toy`."""
    program = TOY.program if preset == "toy" else PROG
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT % ((program, preset),)],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads((folder / "gpu_bench.json").read_text(encoding="utf-8"))
    return result, answer.stdout
