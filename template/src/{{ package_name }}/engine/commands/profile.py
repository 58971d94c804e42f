"""`profile`: what a preset's or a run's model costs, counted and measured."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunFailedError
from ..project import Project, project_root
from .parser import Parser

if TYPE_CHECKING:
    from ..profiling.counted.quantities import ExactQuantities
    from ..profiling.measured.machine import Machine
    from ..profiling.profile_values import Subject


def main(argv: Sequence[str], project: Project) -> int:
    """Run `profile`: print it, or hold it against budgets.toml; RunFailedError when over."""
    parser = _parser()
    flags = parser.parse_strictly(argv)
    _refuse_what_does_not_go_together(parser, flags)

    from ..atomic_write import replace_text
    from ..profiling.counted.memory_plan import parse_memory
    from ..profiling.counted.quantities import exact_quantities
    from ..profiling.measured.machine import this_machine
    from ..seeding import set_determinism, set_threads

    memory = None if flags.fit_vram is None else parse_memory(flags.fit_vram)
    subject, run_dir = _subject(project, flags)
    runtime = subject.task.config.runtime
    set_threads(runtime.threads)
    set_determinism(runtime.determinism)
    machine = this_machine(runtime)
    quantities = exact_quantities(subject.task)
    result = _empty_result(subject, quantities, machine)
    failure = ""
    budgets = project.budgets_path(subject.task.name)
    if flags.accept:
        _accept(subject, quantities, budgets)
    elif flags.check:
        failure = _check(subject, quantities, machine, budgets, result)
    elif memory is None:
        _measure(subject, machine, quantities, run_dir, flags.trace, result)
    if memory is not None:
        _fit(subject, memory, result)
    if flags.json is not None:
        replace_text(flags.json, json.dumps(result, indent=2) + "\n")
    if failure:
        raise RunFailedError(f"over budget: {failure}")
    return 0


def _parser() -> Parser:
    parser = Parser("profile", description="What a preset's or a run's model costs.")
    add = parser.add_argument
    add("run", metavar="RUN", nargs="?", help="a run directory, or its name below runs/")
    add("--preset", metavar="NAME", help="without RUN: the preset; default: default")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--check", action="store_true", help="hold it against budgets.toml")
    modes.add_argument(
        "--accept", action="store_true", help="write the exact quantities into budgets.toml"
    )
    add("--json", type=Path, metavar="FILE", help="also write the result here")
    add("--fit-vram", metavar="SIZE", help="what fits so much memory, as 6GiB; measures nothing")
    add("--trace", action="store_true", help="write a training step's trace, for Perfetto")
    return parser


def _refuse_what_does_not_go_together(parser: Parser, flags: argparse.Namespace) -> None:
    if flags.run is not None and flags.preset is not None:
        parser.error(f"--preset {flags.preset}: the run {flags.run} has a config of its own")
    if flags.run is not None and flags.accept:
        parser.error("--accept: budgets are those of presets: give --preset NAME, not a run")
    if flags.trace and (flags.check or flags.accept or flags.fit_vram is not None):
        parser.error("--trace needs a measured profile: give it without the other modes")
    parser.check_output("--json", flags.json)


def _subject(project: Project, flags: argparse.Namespace) -> tuple["Subject", Path | None]:
    """Choose what to profile, and the run's folder if it is one."""
    from ..profiling.profile_values import Subject
    from ..training.trained_run import open_run

    if flags.run is not None:
        run = open_run(project, flags.run)
        preset = run.manifest.data["preset"]
        return Subject(task=run.task, preset=preset, run=run.run_dir.name), run.run_dir
    name = flags.preset or "default"
    task_type = project.task_type(project.task_of_preset(name))
    return Subject(task=task_type(task_type.presets[name]()), preset=name), None


def _empty_result(
    subject: "Subject", quantities: "ExactQuantities", machine: "Machine"
) -> dict[str, Any]:
    from ..profiling.profile_values import exact_values, header

    later = ("measured", "verdicts", "fit_vram", "trace", "picture")
    exact = {"exact": exact_values(quantities)}
    return {**header(subject, machine), **exact, **dict.fromkeys(later)}


def _measure(
    subject: "Subject",
    machine: "Machine",
    quantities: "ExactQuantities",
    run_dir: Path | None,
    trace: bool,
    result: dict[str, Any],
) -> None:
    from ..profiling.pictures import draw_profile
    from ..profiling.profile_values import measured_values
    from ..profiling.tables import table

    traces = (run_dir or project_root()) / "traces"
    path = traces / f"{subject.run or subject.preset}-training-step.json"
    result["measured"] = measured_values(subject.task, machine, path if trace else None, quantities)
    print(table(result))
    if trace:
        result["trace"] = str(path)
        print(f"trace: {path} (open it at https://ui.perfetto.dev)")
    picture = project_root() / "profiles" / f"{subject.preset}.png"
    if run_dir is not None:
        picture = run_dir / "report" / "profile.png"
    result["picture"] = draw_profile(result, picture)
    print(f"picture: {result['picture']}")


def _check(
    subject: "Subject",
    quantities: "ExactQuantities",
    machine: "Machine",
    path: Path,
    result: dict[str, Any],
) -> str:
    """Print the verdicts of `profile --check`; what is over budget, in words."""
    from ..profiling.bench.gpu_bench import check, over
    from ..profiling.budgets import read_budgets
    from ..profiling.tables import title

    budgets = read_budgets(path)
    verdicts = check(subject, quantities, budgets, machine)
    result["verdicts"] = [verdict.text for verdict in verdicts]
    print("\n".join([title(result), *(f"  {verdict.text}" for verdict in verdicts)]))
    return over(verdicts)


def _accept(subject: "Subject", quantities: "ExactQuantities", path: Path) -> None:
    from ..profiling.budgets import accept

    accept(path, str(subject.preset), quantities)
    for name, value in quantities.budgeted().items():
        print(f"{name} = {value}")
    print(f"accepted as the budget of {subject.preset}: {path}")


def _fit(subject: "Subject", memory_bytes: int, result: dict[str, Any]) -> None:
    from ..profiling.counted.memory_plan import fit
    from ..profiling.profile_values import plan_values
    from ..profiling.tables import plan_lines

    plan = fit(subject.task, memory_bytes)
    result["fit_vram"] = plan_values(plan)
    print("\n".join(plan_lines(plan)))
