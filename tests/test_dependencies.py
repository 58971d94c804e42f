"""What a project declares: enough for what it imports, and what was tested."""

import ast
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .rendering import CONSTRAINTS, DEFAULT_PACKAGE, choices, pins, render


@pytest.fixture(scope="module", params=choices("example"))
def project(
    source: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    answers = {"example": request.param}
    return render(source, tmp_path_factory.mktemp("dependencies") / "project", answers)


@pytest.fixture(scope="module")
def pyproject(project: Path) -> dict[str, Any]:
    return tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))


BY_TORCH = {"triton"}
"""What builds of torch for CUDA bring along."""
NOT_HERE = {"fla": "fla-core"}
"""Of an extra that needs a GPU, and is not installed here."""


def lists(pyproject: dict[str, Any]) -> dict[str, list[Any]]:
    """All lists of requirements, as they are written."""
    described = pyproject["project"]
    return {
        "dependencies": described["dependencies"],
        **described["optional-dependencies"],
        **pyproject["dependency-groups"],
    }


def requirements(pyproject: dict[str, Any], *names: str) -> list[Requirement]:
    """What these lists require, without the groups that they include."""
    items = [item for name in names for item in lists(pyproject)[name]]
    return [Requirement(item) for item in items if isinstance(item, str)]


def imported(folder: Path) -> set[str]:
    """The distributions that the modules in `folder` import from."""
    names = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module.split(".")[0])
    names -= {*sys.stdlib_module_names, *BY_TORCH, DEFAULT_PACKAGE, "tests"}
    providers = {name: [there] for name, there in NOT_HERE.items()}
    providers |= metadata.packages_distributions()
    return {canonicalize_name(providers[name][0]) for name in names}


def test_our_environment_satisfies_what_is_declared(pyproject: dict[str, Any]) -> None:
    wanted = requirements(pyproject, "dependencies", "all", "lint", "test", "types")
    wanted += [Requirement(item) for item in pyproject["build-system"]["requires"]]
    for requirement in wanted:
        assert requirement.specifier.contains(metadata.version(requirement.name)), requirement


def test_everything_imported_is_declared(project: Path, pyproject: dict[str, Any]) -> None:
    extras = pyproject["project"]["optional-dependencies"]
    declared = {canonicalize_name(r.name) for r in requirements(pyproject, "dependencies", *extras)}
    assert imported(project / "src") <= declared
    declared |= {canonicalize_name(r.name) for r in requirements(pyproject, "test")}
    assert imported(project / "tests") <= declared


def test_the_constraints_lie_in_the_declared_ranges(pyproject: dict[str, Any]) -> None:
    for requirement in requirements(pyproject, "dependencies", "all", "lint", "test", "types"):
        pinned = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), requirement
        ranges = {clause.operator for clause in requirement.specifier}
        assert ranges == {">="}, f"{requirement} is no wide range"


def test_torch_is_pinned_for_us_and_wide_for_users(pyproject: dict[str, Any]) -> None:
    assert pins()["torch"] == Version("2.13.0")
    assert "torch>=2.11" in lists(pyproject)["dependencies"]


def test_the_constraints_are_the_versions_that_we_test_with() -> None:
    # without what follows a +, which says for which device torch was built
    installed = {name: Version(metadata.version(name).split("+")[0]) for name in pins()}
    assert installed == pins()


def test_one_sorted_requirement_a_line(project: Path, pyproject: dict[str, Any]) -> None:
    lines = (project / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for name, items in lists(pyproject).items():
        written = [item for item in items if isinstance(item, str)]
        assert written == sorted(written), name
        assert all(f'  "{item}",' in lines for item in written), name
    pinned = CONSTRAINTS.read_text(encoding="utf-8").splitlines()[1:]
    assert pinned == sorted(pinned, key=str.lower)
