"""`gpu_bench`: a preset's size and, on a GPU, its speed and memory.

Exact quantities are counted and held against budgets.toml everywhere. With a GPU, latency at
batch 1 and the peak memory of inference and of a training step are measured several times and
held against the budget for that GPU. It needs torch and numpy only.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..project import Project
from .parser import Parser

if TYPE_CHECKING:
    from ..profiling.budgets import Verdict


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `gpu_bench`; 1 where a budget is exceeded."""
    parser = _parser(project)
    flags = parser.parse_strictly(argv)
    parser.check_output("--json", flags.json)
    if flags.repetitions is not None and flags.repetitions < 1:
        parser.error(f"--repetitions {flags.repetitions}: give a number from 1 on")

    from ..atomic_write import replace_text
    from ..profiling.bench import gpu_bench
    from ..profiling.bench.gpu_bench import REPETITIONS
    from ..profiling.pictures import draw_repetitions
    from ..profiling.tables import bench_lines, title
    from ..seeding import set_determinism, set_threads

    preset = flags.preset or project.benched or next(iter(project.presets), "default")
    task_type = project.task_type(project.task_of_preset(preset))
    task = task_type(task_type.presets[preset]())
    set_threads(task.config.runtime.threads)
    set_determinism(task.config.runtime.determinism)
    result, verdicts = gpu_bench.bench(
        task,
        preset,
        gpu_bench.gpu_machine(),
        project.budgets_path(project.task_of_preset(preset)),
        flags.repetitions or REPETITIONS,
        counted=flags.exact,
    )
    if result["repetitions"]:
        path = flags.json.with_suffix(".png")
        print(f"picture: {draw_repetitions(result['repetitions'], path, title(result))}")
    replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    print("\n".join(bench_lines(result)))
    return _complaints(result, verdicts, flags.require_gpu)


def _parser(project: Project) -> Parser:
    parser = Parser("gpu_bench", description=__doc__)
    add = parser.add_argument
    add("--preset", metavar="NAME", help=f"default: {project.benched or 'the first'}")
    add("--json", type=Path, default=Path("gpu_bench.json"), metavar="FILE")
    add("--repetitions", type=int, metavar="N", help="default: 5")
    add("--require-gpu", action="store_true", help="fail where there is no GPU or a mode fails")
    add("--exact", action=argparse.BooleanOptionalAction, default=True, help="count, too")
    return parser


def _complaints(result: dict[str, Any], verdicts: "list[Verdict]", require_gpu: bool) -> int:
    """Say what of the bench is over budget or missing; exit code 1 for either."""
    problems = []
    over = [verdict.text for verdict in verdicts if verdict.state == "over"]
    if over:
        problems.append(f"over budget: {'; '.join(over)}")
    if result["compile_failure"] is not None and require_gpu:
        problems.append(f"a mode could not be measured: {result['compile_failure']}")
    if result["skipped"] and require_gpu:
        problems.append("there is no GPU here, and --require-gpu asks for one")
    for problem in problems:
        print(f"gpu_bench: {problem}", file=sys.stderr)
    return int(bool(problems))
