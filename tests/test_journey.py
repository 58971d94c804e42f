"""A person makes a project theirs, by the README's "Make it yours" to the letter.

Its commands are run and its edits are made as they stand there; then everything that a project
can do must work without the example, and again after an update that changes the trainer.
"""

import ast
import re
import shutil
from pathlib import Path

import pytest

from .environments import overlay, run
from .reference import ANSWERS_FILE
from .rendering import DEFAULT_PACKAGE, commit
from .test_rendered_suites import environment
from .updating import conflicts, insert_first, started_project, status, update

SOURCE = Path("src") / DEFAULT_PACKAGE


@pytest.fixture(scope="module")
def versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, and a version 1.1.0 of it that changes the trainer."""
    folder = tmp_path_factory.mktemp("journey") / "template"
    shutil.copytree(template, folder)
    source = folder / "template/src/{{ package_name }}/engine"
    for name in ("training/loop.py", "training/step.py", "training/checkpoint.py"):
        insert_first(source / name, "# the template's edit")
    (source / "training/brought.py").write_text('"""New."""\n', encoding="utf-8")
    insert_first(folder / "template/noxfile.py", "# the template's edit")
    commit(folder, tag="1.1.0")
    return folder


class Journey:
    """A project, and the commands that its user types."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.scripts = project / ".venv/bin"

    def types(self, line: str, *, code: int = 0) -> str:
        """Run a line of the README."""
        words = line.replace(".venv/bin/", "").split()
        if words[0] in (DEFAULT_PACKAGE, "mypy", "pytest", "ruff"):
            words = [str(self.scripts / "python"), "-m", *words]
        return run(words, self.project, env=environment(), code=code)

    def section(self) -> list[tuple[str, str]]:
        """(language, text) of each code block of "Make it yours"."""
        text = (self.project / "README.md").read_text(encoding="utf-8")
        part = text.split("## Make it yours")[1].split("### Five occasions")[0]
        return re.findall(r"```(\w+)\n(.*?)```", part, re.DOTALL)

    def mine(self) -> list[Path]:
        """The files that its user owns, relative to the project."""
        kinds = ("data", "model", "task")
        files = [SOURCE / "diabetes" / f"{name}.py" for name in ("__init__", *kinds)]
        tests = [Path("tests/diabetes") / f"test_{kind}.py" for kind in kinds]
        return [*files, Path("tests/diabetes/__init__.py"), *tests, SOURCE / "project.py"]

    def edits(self) -> tuple[int, int]:
        """Lines added and removed since the last commit."""
        numbers = run(["git", "diff", "--numstat"], self.project).split()
        return sum(map(int, numbers[0::3])), sum(map(int, numbers[1::3]))

    def replaces_body(self, path: Path, function: str, body: str) -> None:
        """Give `function` in the file `path` another body, docstring and all kept above it."""
        text = path.read_text(encoding="utf-8")
        (found,) = (
            node
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.FunctionDef) and node.name == function
        )
        kept = found.body[0] if ast.get_docstring(found) else None
        first = kept.end_lineno if kept else found.body[0].lineno - 1
        lines = text.splitlines()
        lines[first : found.body[-1].end_lineno] = body.rstrip("\n").splitlines()
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def with_lines_replaced(text: str, new: str) -> str:
    """`text` with each line of `new` in the place of the one that begins alike."""
    for line in new.splitlines():
        start = re.match(r"\s*\"?\w+\"?", line)
        assert start is not None
        text, times = re.subn(rf"^{re.escape(start[0])}(?!\w).*$", line, text, flags=re.MULTILINE)
        assert times == 1, line
    return text


@pytest.fixture(scope="module")
def journey(versions: Path, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """A project after all four steps, without the last command, nox, whose sessions come below."""
    project = started_project(versions, tmp_path_factory.mktemp("journey") / "project", "1.0.0")
    journey = Journey(project)
    overlay(project)
    steps = [text for _, text in journey.section()]
    new_task, features, loader, training, presets, deleting = steps
    for line in new_task.splitlines():
        journey.types(line)
    commit(project)
    data = project / SOURCE / "diabetes/data.py"
    edited = with_lines_replaced(data.read_text(encoding="utf-8"), features)
    data.write_text(edited, encoding="utf-8")
    journey.replaces_body(data, "_load", loader)
    said = [journey.types(line) for line in training.splitlines()]
    assert "finished at step" in said[-2]
    assert "failed" not in said[-1]
    commit(project)
    project_py = project / SOURCE / "project.py"
    text = with_lines_replaced(project_py.read_text(encoding="utf-8"), presets)
    project_py.write_text(re.sub(r'^    "digits":.*\n', "", text, flags=re.MULTILINE), "utf-8")
    answers = project / ANSWERS_FILE
    answered = answers.read_text(encoding="utf-8").replace("classifier", "none")
    answers.write_text(answered, encoding="utf-8")
    assert journey.edits() == (3, 4)
    for line in deleting.splitlines()[:-1]:
        journey.types(line)
    commit(project)
    return journey


def test_nothing_of_the_example_is_left(journey: Journey) -> None:
    assert not (journey.project / SOURCE / "digits").exists()
    assert not (journey.project / "tests/digits").exists()
    lines = (journey.project / SOURCE / "project.py").read_text(encoding="utf-8")
    assert "digits" not in lines


def works(journey: Journey, run_name: str) -> None:
    """Everything that a project can do."""
    run_dir = f"runs/{run_name}"
    assert "finished at step" in journey.types(
        f"{DEFAULT_PACKAGE} train --preset smoke --run-dir {run_dir}"
    )
    assert "rmse" in journey.types(f"{DEFAULT_PACKAGE} evaluate {run_dir}")
    journey.types(f"{DEFAULT_PACKAGE} report {run_dir}")
    report = journey.project / run_dir / "report/report.html"
    assert "Predictions" in report.read_text(encoding="utf-8")
    journey.types(f"{DEFAULT_PACKAGE} profile --check")
    assert "same: " in journey.types(f"{DEFAULT_PACKAGE} reproduce {run_dir}")
    assert " failed: " not in journey.types(f"{DEFAULT_PACKAGE} doctor {run_dir}")
    journey.types("ruff check --no-cache .")
    journey.types("ruff format --no-cache --check .")


def test_everything_works_without_the_example(journey: Journey) -> None:
    works(journey, "mine")
    assert "measured" in journey.types(f"{DEFAULT_PACKAGE} profile --preset smoke").lower()
    journey.types("mypy")
    said = journey.types("pytest -p no:cacheprovider --cov")
    assert "Required test coverage of 90.0% reached" in said


def test_an_update_of_the_trainer_merges_and_everything_works_again(journey: Journey) -> None:
    assert status(journey.project) == ""
    update(journey.project)
    assert conflicts(journey.project) == set()
    changed = run(["git", "diff", "--name-only"], journey.project).split()
    assert {
        f"{SOURCE}/engine/training/{name}.py" for name in ("loop", "step", "checkpoint")
    } <= set(changed)
    assert not (journey.project / SOURCE / "digits").exists()
    commit(journey.project)
    works(journey, "updated")
    # what the update touched, and what the user owns; the rest was tested above as it is
    some = "tests/diabetes tests/engine/training tests/engine/test_layers.py"
    journey.types(f"pytest -q -p no:cacheprovider {some}")
