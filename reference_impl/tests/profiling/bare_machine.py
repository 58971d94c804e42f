"""gpu_bench in a process that has torch and numpy, and little else of what a project needs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from reference_reasoner.command_line import PROG

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCKED = ("nox", "tyro", "sklearn", "matplotlib", "safetensors", "tomli_w", "rich", "scipy")
SCRIPT = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
preset = %r
sys.argv = ['gpu_bench', '--preset', preset]
if preset == 'toy':
    from tests.toy_task import ToyTask
    from {PROG}.project import PRESETS, TASKS
    TASKS['toy'] = 'tests.toy_task:ToyTask'
    PRESETS['toy'] = 'toy'
runpy.run_module('{PROG}.profiling.gpu_bench', run_name='__main__')
"""


def bench_on_a_bare_machine(folder: Path, preset: str) -> tuple[dict[str, Any], str]:
    """What gpu_bench.json holds and what was printed, for a preset of the project or `toy`."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT % preset],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads((folder / "gpu_bench.json").read_text(encoding="utf-8"))
    return result, answer.stdout
