"""Rendered projects, installed and at work: their own tests, types and commands."""

import os
import re
from pathlib import Path

import pytest
import yaml

from .environments import overlay, run
from .reference import render_reference
from .rendering import DEFAULT_PACKAGE, choices, render


def environment() -> dict[str, str]:
    """Ours without what pytest and coverage leave in it, and one thread for torch."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "COV", "PYTHON"))
    }
    return {**ours, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def maximal(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the default answers."""
    project = render(source, tmp_path_factory.mktemp("maximal") / "project")
    overlay(project)
    return project


@pytest.fixture(scope="module")
def reasoner(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference implementation: every part of the template is in it."""
    project = render_reference(template, tmp_path_factory.mktemp("reasoner") / "project")
    overlay(project)
    return project


@pytest.fixture(scope="module", params=choices("example"))
def minimal(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project without anything that can be left out, and with the shortest name."""
    answers = {"trackers": [], "ci": "none", "package_name": "x", "example": request.param}
    project = render(source, tmp_path_factory.mktemp("minimal") / "project", answers)
    overlay(project)
    return project


def python(project: Path, *args: str) -> str:
    """Run a module of the project's environment and return what it printed."""
    return run([str(project / ".venv/bin/python"), "-m", *args], project, env=environment())


def test_its_own_tests_pass_and_cover_enough(maximal: Path) -> None:
    said = python(maximal, "pytest", "-p", "no:cacheprovider", "--cov")
    assert "Required test coverage of 90.0% reached" in said


def test_the_reasoners_own_tests_pass_and_cover_enough(reasoner: Path) -> None:
    said = python(reasoner, "pytest", "-p", "no:cacheprovider", "--cov")
    assert "Required test coverage of 90.0% reached" in said


def test_the_reasoners_types_are_right(reasoner: Path) -> None:
    python(reasoner, "mypy")


def test_its_types_are_right(maximal: Path) -> None:
    python(maximal, "mypy")


def test_it_has_the_sessions_that_its_ci_runs(maximal: Path) -> None:
    listed = python(maximal, "nox", "--list")
    assert set(re.findall(r"^[*-] (\w+)", listed, re.MULTILINE)) == {
        "lint",
        "types",
        "tests",
        "crash",
        "gpu_bench",
        "profile",
        "reproduce",
    }
    run_by_default = re.findall(r"^\* (\w+)", listed, re.MULTILINE)
    jobs = yaml.safe_load((maximal / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    in_ci = jobs["jobs"]["check"]["strategy"]["matrix"]["session"]
    assert in_ci == [*run_by_default, "profile", "reproduce"]
    assert jobs["jobs"]["gpu"]["steps"][3]["run"] == "nox --session gpu_bench -- --require-gpu"
    assert jobs["jobs"]["gpu"]["if"] == "vars.GPU_RUNNER != ''"


def test_the_minimal_one_trains_evaluates_and_reports(minimal: Path) -> None:
    x = str(minimal / ".venv/bin/x")
    none = not any((minimal / "src/x" / name).exists() for name in ("digits", "reasoner"))
    for command in (
        *([["new", "task", "mine"]] if none else []),
        ["train", "--preset", "smoke"],
        ["evaluate", "0001"],
        ["report", "0001"],
        ["runs"],
    ):
        run([x, *command], minimal, env=environment())
    assert (minimal / "runs/0001/report/report.html").is_file()
    assert not list(minimal.glob("runs/0001/**/*tfevents*"))


def test_the_minimal_one_tests_its_tracking_without_the_tracker(minimal: Path) -> None:
    python(minimal, "pytest", "-p", "no:cacheprovider", "tests/engine/tracking")


def test_a_project_runs_as_a_module_too(maximal: Path) -> None:
    assert "train" in python(maximal, DEFAULT_PACKAGE, "--help")
