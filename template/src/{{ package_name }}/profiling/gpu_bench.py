"""`python -m <package>.profiling.gpu_bench`: a preset's size and, on a GPU, its speed and memory.

Exact quantities are counted and held against budgets.toml everywhere. With a GPU, latency at
batch 1 and the peak memory of a training step are measured several times and held against the
budget for that GPU. It needs torch and numpy only.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..config import RuntimeConfig
from ..errors import RefusedInputError
from ..loading import load_task_type, task_of_preset
from ..paths import project_root
from ..seeding import set_determinism, set_threads
from ..tracking.environment import environment
from ..tracking.manifest import replace_text
from ..training.task import Task
from .benchmark import REPETITIONS, STEP_INPUT, budgeted, repetition
from .budget import Verdict, check_exact, check_measured, read_budgets
from .exact import exact_quantities
from .machine import Machine, this_machine
from .picture import draw_repetitions
from .profile import Subject, exact_values, header
from .table import number, title

_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
_PROG = "gpu_bench"


def gpu_machine() -> Machine | None:
    """This machine's GPU, or None."""
    return this_machine(RuntimeConfig(device="cuda")) if torch.cuda.is_available() else None


def ask_nvidia_smi(query: str) -> str | None:
    """nvidia-smi's answer for the first GPU, or None where it does not answer."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def clocks_mhz(ask: Callable[[str], str | None] = ask_nvidia_smi) -> dict[str, float] | None:
    """{clock: MHz} of the GPU as it is now; None where nobody knows."""
    answer = ask(",".join(_CLOCKS))
    values = [] if answer is None else [word.strip() for word in answer.split(",")]
    try:
        pairs = zip(_CLOCKS, map(float, values), strict=True)
        return {f"{name.replace('.', '_')}_mhz": value for name, value in pairs}
    except ValueError:
        return None


def main(argv: Sequence[str], find_gpu: Callable[[], Machine | None] = gpu_machine) -> int:
    """Measure, write the JSON and the picture, and return 1 where a budget is exceeded."""
    flags = _parser().parse_args(argv)
    try:
        if not flags.json.parent.is_dir():
            raise RefusedInputError(f"--json {flags.json}: there is no folder {flags.json.parent}")
        task_type = load_task_type(task_of_preset(flags.preset))
        task = task_type(task_type.presets[flags.preset]())
        set_threads(task.config.runtime.threads)
        set_determinism(task.config.runtime.determinism)
        result, verdicts = bench(task, flags.preset, find_gpu())
    except RefusedInputError as error:
        print(f"{_PROG}: {error}", file=sys.stderr)
        return 2
    if result["repetitions"]:
        path = flags.json.with_suffix(".png")
        print(f"picture: {draw_repetitions(result['repetitions'], path, title(result))}")
    replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    return _say_how_it_went(result, verdicts, flags.require_gpu)


def bench(
    task: Task[Any], preset: str, machine: Machine | None
) -> tuple[dict[str, Any], list[Verdict]]:
    """Everything gpu_bench.json holds, and the verdicts on it. `machine` is a GPU or None."""
    budgets = read_budgets(project_root() / "budgets.toml")
    quantities = exact_quantities(task)
    verdicts = check_exact(preset, budgets, quantities)
    repetitions: list[dict[str, Any]] = []
    here = machine or Machine(device=torch.device("cpu"), gpu=None)
    if machine is not None:
        for count in range(1, REPETITIONS + 1):
            clocks = clocks_mhz()
            repetitions.append({**repetition(task, machine), "clocks": clocks})
            print(f"repetition {count} of {REPETITIONS}: {_in_words(repetitions[-1])}")
        verdicts += check_measured(preset, budgets, machine.gpu, budgeted(repetitions))
    around = environment()
    result = {
        **header(Subject(task=task, preset=preset), here),
        "driver": around["driver"],
        "python": around["python"],
        "commit": around["git"] and around["git"]["commit"],
        "dirty": around["git"] and around["git"]["dirty"],
        "exact": exact_values(quantities),
        "training_step_input": STEP_INPUT,
        "batch_examples": task.config.training.batch_size,
        "repetitions": repetitions,
        "budgeted": budgeted(repetitions) if repetitions else None,
        "skipped": None if repetitions else "no GPU",
        "verdicts": [each.text for each in verdicts],
    }
    return result, verdicts


def _in_words(figures: dict[str, Any]) -> str:
    latency, peak = (
        figures["latency_batch1_p50_ms"],
        figures["training_step_peak_allocated_mib"],
    )
    memory = "unknown" if peak is None else f"{number(peak)} MiB"
    return f"latency at batch 1 {number(latency)} ms (p50), peak of a training step {memory}"


def _say_how_it_went(result: dict[str, Any], verdicts: list[Verdict], require_gpu: bool) -> int:
    print(title(result))
    for name, value in result["exact"].items():
        if isinstance(value, int):
            print(f"  {name} = {number(value)}")
    for verdict in verdicts:
        print(f"  {verdict.text}")
    code = 0
    over = [verdict.text for verdict in verdicts if verdict.state == "over"]
    if over:
        print(f"{_PROG}: over budget: {'; '.join(over)}", file=sys.stderr)
        code = 1
    if result["skipped"]:
        print(f"skipped: {result['skipped']}")
        if require_gpu:
            print(f"{_PROG}: there is no GPU here, and --require-gpu asks for one", file=sys.stderr)
            code = 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROG, allow_abbrev=False, description=__doc__)
    parser.add_argument("--preset", default="default", metavar="NAME")
    parser.add_argument("--json", type=Path, default=Path("gpu_bench.json"), metavar="FILE")
    parser.add_argument("--require-gpu", action="store_true", help="fail where there is no GPU")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
