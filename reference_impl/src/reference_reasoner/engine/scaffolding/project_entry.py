"""Entering a new task and its presets into project.py, where that is safe."""

import ast
from collections.abc import Mapping
from pathlib import Path

from ..atomic_write import replace_text


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
