"""An example is deleted by two folders, its lines in project.py and one answer; nothing returns.

Whatever a project started from, the same project remains: that of the answer `none`.
"""

import ast
import re
import shutil
from pathlib import Path

import pytest

from .environments import overlay, run
from .reference import ANSWERS_FILE, differences, own_files
from .rendering import DEFAULT_PACKAGE, commit, files_in, render
from .test_rendered_suites import environment
from .updating import conflicts, insert_first, started_project, update

FOLDERS = {"classifier": "digits", "recursive_reasoner": "reasoner"}
SOURCE = Path("src") / DEFAULT_PACKAGE
BROUGHT = ("brought.py", "brought.safetensors")
"""What version 1.1.0 adds to each example: a module, and a binary that is of the kept class."""


@pytest.fixture(scope="module")
def versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, and a version 1.1.0 of it in which each example has two more files."""
    folder = tmp_path_factory.mktemp("deletion") / "template"
    shutil.copytree(template, folder)
    source = folder / "template/src/{{ package_name }}"
    for example in FOLDERS.values():
        (source / example / BROUGHT[0]).write_text('"""New."""\n', encoding="utf-8")
        (source / example / BROUGHT[1]).write_bytes(b"\x00new\xff")
    insert_first(source / "engine/seeding.py", "# the template's edit")
    commit(folder, tag="1.1.0")
    return folder


def without_entries(text: str) -> str:
    """A project.py whose dicts are empty and whose BENCHED is None."""
    lines = text.splitlines()
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict):
            lines[node.lineno - 1] = f"{lines[node.lineno - 1].removesuffix('{}').rstrip('{')}{{}}"
            del lines[node.lineno : node.end_lineno]
    return (
        re.sub(r"^(BENCHED: .*) = .*$", r"\1 = None", "\n".join(lines), flags=re.MULTILINE) + "\n"
    )


@pytest.fixture(scope="module", params=FOLDERS)
def deleted(
    request: pytest.FixtureRequest, versions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project of 1.0.0 whose user deleted the example, updated to 1.1.0."""
    folder = tmp_path_factory.mktemp("deleted") / "project"
    project = started_project(versions, folder, "1.0.0", request.param)
    for place in (SOURCE, Path("tests")):
        shutil.rmtree(project / place / FOLDERS[request.param])
    project_py = project / SOURCE / "project.py"
    project_py.write_text(without_entries(project_py.read_text(encoding="utf-8")), "utf-8")
    answers = project / ANSWERS_FILE
    text = answers.read_text(encoding="utf-8")
    assert text.count(f"example: {request.param}\n") == 1
    answers.write_text(text.replace(f"example: {request.param}\n", "example: none\n"), "utf-8")
    commit(project)
    update(project)
    return project


def test_nothing_of_it_comes_back_and_nothing_conflicts(deleted: Path) -> None:
    assert conflicts(deleted) == set()
    names = own_files(deleted)
    assert not [name for name in names if Path(name).name in BROUGHT]
    assert not [name for name in names if set(Path(name).parts) & set(FOLDERS.values())]
    assert "the template's edit" in (deleted / SOURCE / "engine/seeding.py").read_text("utf-8")


def test_the_same_project_remains_as_of_the_answer_none(
    deleted: Path, versions: Path, tmp_path: Path
) -> None:
    fresh = render(versions, tmp_path / "fresh", {"year": "1999", "example": "none"})
    different = differences(deleted, own_files(deleted), fresh, files_in(fresh))
    # the user's side: what the example had brought to shared ground, and to files that are kept
    assert set(different) <= {"README.md", "pyproject.toml", "MODEL_CARD.md"}


def types(project: Path, *words: str, code: int = 0) -> str:
    """A module of Python in the project's environment."""
    return run(
        [str(project / ".venv/bin/python"), "-m", *words], project, env=environment(), code=code
    )


def test_it_works_without_a_task_and_with_a_new_one(
    deleted: Path, request: pytest.FixtureRequest
) -> None:
    overlay(deleted)
    for command in ("train", "profile", "gpu_bench", "doctor"):
        said = types(deleted, DEFAULT_PACKAGE, command, code=2)
        assert "this project has no task yet: `new task NAME` writes one" in said, command
    if "reasoner" not in request.node.name:  # the other one is the same, as is tested above
        said = types(deleted, "pytest", "-p", "no:cacheprovider", "--cov")
        assert "Required test coverage of 90.0% reached" in said
    assert "the task and its presets" in types(deleted, DEFAULT_PACKAGE, "new", "task", "mine")
    assert "finished at step" in types(deleted, DEFAULT_PACKAGE, "train", "--preset", "smoke")
    quick = ("tests/mine", "tests/engine/test_layers.py", "tests/engine/test_project.py")
    types(deleted, "pytest", "-q", "-p", "no:cacheprovider", *quick)
    types(deleted, "mypy")
    types(deleted, "ruff", "check", "--no-cache", ".")
    types(deleted, "ruff", "format", "--no-cache", "--check", ".")
