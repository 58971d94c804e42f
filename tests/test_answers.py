"""Whatever is answered: what gets rendered is complete, well-formed, and clean."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .environments import run
from .file_lists import expected_files
from .rendering import (
    FACTORS,
    Answers,
    choices,
    files_in,
    label,
    pairs,
    pairwise,
    questions,
    render,
)

COMBINATIONS = pairwise(FACTORS)
# GitHub's expressions and the doubled braces of an f-string are no Jinja
JINJA = re.compile(r"(?<!\$)\{\{-? |\{%|\{#")


@pytest.fixture(scope="module", params=COMBINATIONS, ids=label)
def answers(request: pytest.FixtureRequest) -> Answers:
    return request.param


@pytest.fixture(scope="module")
def project(source: Path, answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(source, tmp_path_factory.mktemp("matrix") / "project", answers)


def test_every_pair_of_answers_is_rendered() -> None:
    rendered = set().union(*map(pairs, COMBINATIONS))
    for first, second in [(a, b) for a in FACTORS for b in FACTORS if a < b]:
        for one in FACTORS[first]:
            for other in FACTORS[second]:
                pair = {(first, repr(one)), (second, repr(other))}
                assert any(set(each) == pair for each in rendered), pair


def test_every_choice_is_in_the_matrix() -> None:
    for name, question in questions().items():
        if question.get("multiselect"):
            assert {one for some in FACTORS[name] for one in some} == set(choices(name))
        elif "choices" in question:
            assert list(FACTORS[name]) == choices(name)


def test_formatted(project: Path) -> None:
    run([sys.executable, "-m", "ruff", "format", "--check", "--no-cache", "."], project)


def test_without_a_complaint_of_the_linter(project: Path) -> None:
    run([sys.executable, "-m", "ruff", "check", "--no-cache", "."], project)


@pytest.mark.parametrize(
    ("suffixes", "parse"),
    [
        ({".toml"}, tomllib.loads),
        ({".yml", ".yaml"}, yaml.safe_load),
        ({".py"}, lambda text: compile(text, "a file", "exec", dont_inherit=True)),
    ],
    ids=["toml", "yaml", "python"],
)
def test_parses(project: Path, suffixes: set[str], parse: Callable[[str], Any]) -> None:
    for name in files_in(project):
        if Path(name).suffix in suffixes:
            try:
                parse((project / name).read_text(encoding="utf-8"))
            except (ValueError, SyntaxError, yaml.YAMLError) as error:
                raise AssertionError(f"{name}: {error}") from error


def test_exactly_the_files_that_the_answers_ask_for(project: Path, answers: Answers) -> None:
    found, expected = files_in(project), expected_files(answers)
    assert found == expected, (
        f"not listed: {sorted(found - expected)}, missing: {sorted(expected - found)}; "
        "`python -m tests.file_lists` accepts it"
    )


def test_no_jinja_is_left(project: Path) -> None:
    for name in files_in(project):
        # the bytes of weights may be any
        inside = "" if name.endswith(".safetensors") else (project / name).read_text("utf-8")
        left = JINJA.search(name + inside)
        assert left is None, f"{name}: {left}"


def test_every_answer_is_kept_for_the_next_update(project: Path, answers: Answers) -> None:
    kept = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    assert set(kept) - {"_src_path"} == set(questions())
    assert {name: kept[name] for name in answers} == answers


def test_the_answers_reach_the_metadata(project: Path, answers: Answers) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["requires-python"] == f">={answers['python_min']}"
    assert list(metadata["scripts"]) == [answers["package_name"]]
    kernels = {"fla"} if answers["example"] == "recursive_reasoner" else set()
    assert set(metadata["optional-dependencies"]) == {"all", *answers["trackers"], *kernels}
    assert metadata.get("license", "Proprietary") == answers["license"]


@pytest.mark.parametrize("package", ["digits", "reasoner", "engine"])
@pytest.mark.parametrize("example", choices("example"))
def test_a_package_may_be_called_like_an_example(
    source: Path, tmp_path: Path, example: str, package: str
) -> None:
    """Patterns of copier.yml name folders of the package, and not the package."""
    answers = {"trackers": [], "ci": "none", "package_name": package, "example": example}
    project = render(source, tmp_path / "project", answers)
    assert files_in(project) == expected_files(answers)
