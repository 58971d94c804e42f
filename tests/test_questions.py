"""The questions: what they refuse, and in which words; what they make of good answers."""

import datetime
import tomllib
from pathlib import Path

import pytest
import yaml

from .environments import run
from .rendering import COPIER, LONGEST_PACKAGE, questions, render

REFUSED = {
    "project_name": ["", "-dash", "Größe", "a/b", "{{ name }}", "two\nlines", "end\n"],
    "package_name": ["", "Upper", "9lives", "a-b", "end_", "end\n", "a" * 25, "torch", "class"],
    "description": ["", "   ", 'say "cheese"', "back\\slash", "two\nlines", "bell\a"],
    "author_name": ["", "Ann <ann@example.com>", 'Ann "A" Lee', "two\nlines", "bell\a"],
    "author_email": ["", "ann", "ann@home", "ann@exa mple.com", "@example.com", "a@b.c\n"],
    "license": ["GPL", "mit"],
    "year": ["26", "20266", "this one", "1999\n"],
    "python_min": ["3.10", "3.9", "4"],
    "example": ["resnet", "language_model"],
    "trackers": [["wandb"], ["tensorboard", "mlflow"]],
    "ci": ["jenkins", "GitHub"],
}
TAKEN = {
    "project_name": ["A", "2nd run", "U.S. digits_v1-b"],
    "package_name": ["x", "a1", LONGEST_PACKAGE],
    "description": ["It's 100 % fine: {braces}, 'quotes' & Größe."],
    "author_name": ["Ann O'Lee, Jürgen & Co."],
    "author_email": ["a.b+c@d-e.f.org"],
    "year": ["1999"],
}


def answers_of(project: Path) -> dict[str, object]:
    """What was recorded for the next update."""
    return yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))


def test_every_question_is_tried() -> None:
    assert set(REFUSED) == set(questions())


@pytest.mark.parametrize(
    ("question", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_a_bad_value_is_named_and_nothing_is_written(
    source: Path, tmp_path: Path, question: str, value: str | list[str]
) -> None:
    with pytest.raises(ValueError, match=question) as refusal:
        render(source, tmp_path / "project", {question: value})
    last = value[-1] if isinstance(value, list) else value
    assert last in str(refusal.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("question", "value"), [(name, value) for name, values in TAKEN.items() for value in values]
)
def test_a_good_value_is_recorded_as_it_is(
    source: Path, tmp_path: Path, question: str, value: str
) -> None:
    project = render(source, tmp_path / "project", {question: value})
    assert answers_of(project)[question] == value
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    author = metadata["authors"][0]
    written = {
        "description": metadata["description"],
        "author_name": author["name"],
        "author_email": author["email"],
    }
    assert written.get(question, value) == value


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("My Experiment", "my_experiment"),
        ("3D Seg. Model", "d_seg_model"),
        ("2026", "project"),
        ("A very long name - of a project", "a_very_long_name_of_a_pr"),
        ("Twenty four characters a b", "twenty_four_characters_a"),
    ],
)
def test_the_packages_name_comes_from_the_projects(
    source: Path, tmp_path: Path, name: str, package: str
) -> None:
    project = render(source, tmp_path / "project", {"project_name": name})
    assert answers_of(project)["package_name"] == package
    assert (project / "src" / package / "__init__.py").is_file()


def test_a_derived_name_that_is_taken_is_refused_too(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'torch' is taken"):
        render(source, tmp_path / "project", {"project_name": "Torch"})


def test_the_year_is_todays_until_it_is_answered(source: Path, tmp_path: Path) -> None:
    years = [datetime.date.today().year]
    project = render(source, tmp_path / "project")
    years.append(datetime.date.today().year)  # on New Year's Eve
    assert answers_of(project)["year"] in map(str, years)


def test_an_answer_that_nobody_asked_for_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="project_nmae"):
        render(source, tmp_path / "project", {"project_nmae": "Typo"})


def test_the_command_line_keeps_the_version_and_says_what_comes_next(
    template: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    said = run([*COPIER, "copy", "--defaults", str(template), str(project)], tmp_path)
    kept = answers_of(project)
    assert set(kept) == set(questions()) | {"_commit", "_src_path"}
    assert kept["_commit"] == "1.0.0"
    message = said[said.index("My Experiment is ready in") :]
    assert f"cd {project} && git init" in message
    assert "my_experiment train --preset smoke" in message
    assert "README.md" in message
