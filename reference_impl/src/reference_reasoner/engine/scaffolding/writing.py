"""Writing files from seeds, all of them or none."""

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
from ..project import project_root

PACKAGE = __name__.partition(".")[0]
_LONGEST = 24
_TAKEN = {"dataset", "integrity", "loader", "sampler", "splits", "test_lock"}
"""Modules of data/ that the template owns."""


def source_folder() -> Path:
    """The package's folder in the project. Raises RefusedInputError outside of a project."""
    folder = project_root() / "src" / PACKAGE
    if not (folder / "project.py").is_file():
        raise RefusedInputError(
            f"{project_root()} is no project of {PACKAGE}: it has no src/{PACKAGE}/project.py; "
            "go to the project's folder"
        )
    return folder


def check_name(name: str) -> None:
    """Raise RefusedInputError for a name that no module, class and preset can have."""
    wrong = not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name)
    if wrong or len(name) > _LONGEST or name in _TAKEN or keyword.issoftkeyword(name):
        raise RefusedInputError(
            f"{name!r} cannot be the name of a module: take up to {_LONGEST} lower-case letters, "
            "digits and single _, a letter first, and no word of Python's or the template's"
        )


def class_name(name: str) -> str:
    """`my_data` -> `MyData`."""
    return "".join(part.capitalize() for part in name.split("_"))


def filled(seed: str, **values: str) -> str:
    """The seed's text with `$$name` and the like in it replaced."""
    folder = importlib.resources.files(__package__ or "") / "seeds"
    text = (folder / f"{seed}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def write_all(texts: Mapping[Path, str]) -> list[Path]:
    """Write every file, or none. Raises RefusedInputError where one of them is there already."""
    for path, text in texts.items():
        if path.exists():
            raise RefusedInputError(
                f"{path.relative_to(project_root())} is there already: remove it, or take "
                "another name"
            )
        ast.parse(text)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        init = path.parent / "__init__.py"
        if "tests" in path.relative_to(project_root()).parts and not init.exists():
            init.touch()
        replace_text(path, text)
    return list(texts)


def require_module(kind: str, name: str) -> None:
    """Raise RefusedInputError unless `data/` or `models/` has a module of that name."""
    folder = source_folder() / kind
    if not (folder / f"{name}.py").is_file():
        known = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
        raise RefusedInputError(
            f"there is no {kind}/{name}.py{suggestion(name, known)}: write it first, with "
            f"`new {kind.removesuffix('s')} {name}`"
        )
