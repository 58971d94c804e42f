"""`new task`, `new data` and `new model`: a task's folder from seeds, entered into project.py.

Files are written as a whole, all of them or none.
"""

import ast
import importlib.resources
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from ..atomic_write import replace_text
from ..config.fields import suggestion
from ..errors import RefusedInputError
from ..project import Project, project_root

PACKAGE = __name__.partition(".")[0]
KINDS = ("data", "model", "task")
_LONGEST = 24
_TAKEN = {"engine", "shared", "project", "tests"}
"""Names below src/<package>/ that no task's folder can have."""


def new_task(project: Project, name: str) -> list[str]:
    """Write a task's folder and its tests, and enter it into project.py; what to say of it."""
    check_name(name)
    source = source_folder()
    for folder in (source / name, project_root() / "tests" / name):
        if folder.exists():
            raise RefusedInputError(
                f"{_from_root(folder)} is there already: take another name, or add to it with "
                f"`new data {name}` or `new model {name}`"
            )
    texts = {source / name / "__init__.py": f'"""{_title(name)}: its data, model and task."""\n'}
    for kind in KINDS:
        texts |= _texts(kind, name, kind, name)
    written = [_from_root(path) for path in write_all(texts)]
    wanted = entries(name, class_name(name), first=not project.tasks)
    path = source / "project.py"
    if enter(path, wanted):
        written.append(f"{_from_root(path)} (the task and its presets)")
    else:
        where = _from_root(path)
        written += ["", f"Add to {where}, whose dicts could not be edited:", *lines_to_add(wanted)]
    return [
        *written,
        "",
        f"Next: put your own numbers into `_load` of src/{PACKAGE}/{name}/data.py, and how many",
        f"features they have into FEATURES; change model.py beside it; `pytest tests/{name}`; then",
        f"`{PACKAGE} train --preset {name}_smoke`, and `{PACKAGE} doctor --model RUN` on it.",
    ]


def new_file(kind: str, place: str) -> list[str]:
    """Write a data set or a model, and its tests, into a task's folder; what to say of it.

    `place` is FOLDER, which then gets data.py or model.py, or FOLDER.FILE.
    """
    folder, _, file = place.partition(".")
    file = file or kind
    check_name(file)
    there = {p.name for p in source_folder().iterdir() if (p / "__init__.py").is_file()}
    known = sorted(there - _TAKEN)
    if folder not in known:
        raise RefusedInputError(
            f"there is no task's folder src/{PACKAGE}/{folder}{suggestion(folder, known)}: "
            f"`new task {folder or 'NAME'}` writes one"
        )
    written = write_all(_texts(kind, folder, file, folder if file == kind else file))
    return [
        *map(_from_root, written),
        "",
        f"Next: change {_from_root(written[0])} as you like;",
        f"`pytest {_from_root(written[1])}`; and use it in src/{PACKAGE}/{folder}/task.py.",
    ]


def _texts(kind: str, folder: str, file: str, name: str) -> dict[Path, str]:
    """{path: text} of a module of a task's folder and of its tests."""
    values = {
        "name": name,
        "Class": class_name(name),
        "title": _title(name),
        "package": PACKAGE,
        "folder": folder,
        "file": file,
    }
    return {
        source_folder() / folder / f"{file}.py": filled(kind, **values),
        project_root() / "tests" / folder / f"test_{file}.py": filled(f"test_{kind}", **values),
    }


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _from_root(path: Path) -> str:
    return str(path.relative_to(project_root()))


def source_folder() -> Path:
    """The package's folder below src/. Raises RefusedInputError outside of a project."""
    folder = project_root() / "src" / PACKAGE
    if not (folder / "project.py").is_file():
        raise RefusedInputError(
            f"{project_root()} is no project of {PACKAGE}: it has no src/{PACKAGE}/project.py; "
            "go to the project's folder"
        )
    return folder


def check_name(name: str) -> None:
    """Raise RefusedInputError for a name that no task's folder, module or class can have."""
    if name in _TAKEN:
        raise RefusedInputError(
            f"{name!r} cannot be the name of a task: the project has {name} already; take another"
        )
    wrong = not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name)
    if wrong or len(name) > _LONGEST or keyword.issoftkeyword(name):
        raise RefusedInputError(
            f"{name!r} cannot be the name of a module: take up to {_LONGEST} lower-case letters, "
            "digits and single _, a letter first, and no word of Python's"
        )


def class_name(name: str) -> str:
    """The class name of a task's folder: `my_data` -> `MyData`."""
    return "".join(part.capitalize() for part in name.split("_"))


def filled(seed: str, **values: str) -> str:
    """The text of a seed with its `$$name` and the like replaced."""
    folder = importlib.resources.files(__package__ or "") / "seeds"
    text = Template((folder / f"{seed}.txt").read_text(encoding="utf-8")).substitute(values)
    lines = text.splitlines(keepends=True)
    own = [n for n, line in enumerate(lines) if line.startswith(f"from {PACKAGE}.")]
    if own:  # a folder's name decides whether its import comes before the engine's
        block = slice(own[0], own[-1] + 1)
        lines[block] = sorted(lines[block], key=lambda line: line.split()[1])
    return "".join(lines)


def write_all(texts: Mapping[Path, str]) -> list[Path]:
    """Write every new file of a scaffold, or none where one of them is there already."""
    for path, text in texts.items():
        if path.exists():
            raise RefusedInputError(
                f"{_from_root(path)} is there already: remove it, or take another name"
            )
        ast.parse(text)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        init = path.parent / "__init__.py"
        if "tests" in path.relative_to(project_root()).parts and not init.exists():
            init.touch()
        replace_text(path, text)
    return list(texts)


def entries(task: str, class_name: str, *, first: bool = False) -> dict[str, dict[str, str]]:
    """{dict of project.py: its new entries} for a new task; the `first` has the usual presets too.

    These are `default` and `smoke`, which commands and sessions take where nothing is said.
    """
    usual = {"default": task, "smoke": task} if first else {}
    return {
        "TASKS": {task: f".{task}.task:{class_name}Task"},
        "PRESETS": {**usual, task: task, f"{task}_smoke": task},
    }


def enter(path: Path, wanted: Mapping[str, Mapping[str, str]]) -> bool:
    """Add a task's entries at the end of the dicts of project.py; whether that could be done.

    It is done where each dict is empty or has one entry a line, and nothing else changes.
    """
    text = path.read_text(encoding="utf-8")
    try:
        before = _dicts(text)
        new = text
        for name, values in wanted.items():
            new = _with_lines(new, name, values)
        done = _dicts(new) == {
            name: {**old, **wanted.get(name, {})} for name, old in before.items()
        }
    except (SyntaxError, ValueError, KeyError):
        return False
    if done:
        replace_text(path, new)
    return done


def _dicts(text: str) -> dict[str, dict[str, str]]:
    """{name: value} of project.py's dict literals. Raises ValueError for other values."""
    return {name: ast.literal_eval(node) for name, node in _nodes(text).items()}


def _nodes(text: str) -> dict[str, ast.Dict]:
    return {
        statement.target.id: statement.value
        for statement in ast.parse(text).body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and isinstance(statement.value, ast.Dict)
    }


def _with_lines(text: str, name: str, values: Mapping[str, str]) -> str:
    node = _nodes(text)[name]
    lines = text.splitlines(keepends=True)
    last = (node.end_lineno or 0) - 1
    added = [f'    "{key}": "{value}",\n' for key, value in values.items()]
    if not node.keys and lines[last].endswith("{}\n"):
        opened = lines[last].removesuffix("}\n") + "\n"
        return "".join([*lines[:last], opened, *added, "}\n", *lines[last + 1 :]])
    if lines[last].strip() != "}" or node.lineno - 1 == last:
        raise ValueError(f"{name} does not end in a line of its own")
    return "".join([*lines[:last], *added, *lines[last:]])


def lines_to_add(wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The lines that a person adds to project.py where it could not be edited."""
    return [
        f'  {name}: "{key}": "{value}",'
        for name, values in wanted.items()
        for key, value in values.items()
    ]
