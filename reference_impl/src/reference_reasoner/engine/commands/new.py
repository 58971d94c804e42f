"""`new`: a data set, a model, a task or tests to start from."""

from collections.abc import Sequence

from ..project import Project
from .parser import Parser

_KINDS = {
    "data": "a data set and its tests",
    "model": "a model and its tests",
    "task": "a task that joins a data set and a model of `new`, its tests, and its presets",
    "tests": "tests of a module that a task's model uses, such as models.mine",
}


def main(argv: Sequence[str], project: Project) -> int:
    """Write what `argv` asks for and say what comes next."""
    listed = "; ".join(f"{kind}: {text}" for kind, text in _KINDS.items())
    parser = Parser("new", description=f"Write something that works as it stands. {listed}.")
    parser.add_argument("kind", choices=list(_KINDS), help="what to write")
    parser.add_argument("name", metavar="NAME", help="its name; with tests: the module")
    parser.add_argument("--data", metavar="NAME", help="task: the data set; default: as the task")
    parser.add_argument("--model", metavar="NAME", help="task: the model; default: as the task")
    flags = parser.parse_strictly(argv)
    if flags.kind != "task" and (flags.data or flags.model):
        parser.error(f"--data and --model are of `new task`, not of `new {flags.kind}`")
    print("\n".join(_written(project, flags.kind, flags.name, flags.data, flags.model)))
    return 0


def _written(
    project: Project, kind: str, name: str, data: str | None, model: str | None
) -> list[str]:
    from ..scaffolding.modules import new_data, new_model, new_task

    if kind == "data":
        return new_data(name)
    if kind == "model":
        return new_model(name)
    if kind == "task":
        return new_task(name, data or name, model or name)

    from ..scaffolding.module_tests import new_tests

    tasks = {}
    for task in project.tasks:
        task_type = project.task_type(task)
        preset = project.presets_of(task)[0]
        tasks[task] = (preset, task_type(task_type.presets[preset]()))
    return new_tests(name, tasks)
