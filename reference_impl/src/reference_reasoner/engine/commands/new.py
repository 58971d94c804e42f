"""`new`: a task's folder, more data or another model in it, or tests of a module."""

from collections.abc import Sequence

from ..project import Project
from .parser import Parser

_KINDS = {
    "task": "a folder with a data set, a model, a task with presets, and their tests",
    "data": "a data set and its tests in a task's folder, FOLDER or FOLDER.FILE",
    "model": "a model and its tests in a task's folder, FOLDER or FOLDER.FILE",
    "tests": "tests of a module that a task's model uses, such as FOLDER.model",
}


def main(argv: Sequence[str], project: Project) -> int:
    """Run the command `new`: scaffold what `argv` asks for and say what comes next."""
    listed = "; ".join(f"{kind}: {text}" for kind, text in _KINDS.items())
    parser = Parser("new", description=f"Write something that works as it stands. {listed}.")
    parser.add_argument("kind", choices=list(_KINDS), help="what to write")
    parser.add_argument("name", metavar="NAME", help="its name, or where it goes; see above")
    flags = parser.parse_strictly(argv)
    print("\n".join(_written(project, flags.kind, flags.name)))
    return 0


def _written(project: Project, kind: str, name: str) -> list[str]:
    from ..scaffolding.task_folder import new_file, new_task

    if kind == "task":
        return new_task(project, name)
    if kind != "tests":
        return new_file(kind, name)

    from ..scaffolding.module_tests import new_tests

    tasks = {}
    for task in project.tasks or [project.default_task]:
        task_type, preset = project.task_type(task), project.presets_of(task)[0]
        tasks[task] = (preset, task_type(task_type.presets[preset]()))
    return new_tests(name, tasks)
