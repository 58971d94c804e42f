"""Rendering the template, and which combinations of answers are worth a render."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import copier
import yaml
from packaging.utils import canonicalize_name
from packaging.version import Version

from .environments import run

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "template" / "constraints.txt"
COPIER = [sys.executable, "-m", "copier"]
Answers = Mapping[str, Any]

DEFAULT_PACKAGE = "my_experiment"
LONGEST_PACKAGE = "classifier_of_old_digits"
FACTORS: dict[str, Sequence[Any]] = {
    "license": ["MIT", "BSD-3-Clause", "Apache-2.0", "Proprietary"],
    "python_min": ["3.11", "3.12", "3.13"],
    "example": ["classifier", "recursive_reasoner", "none"],
    "trackers": [["tensorboard"], []],
    "ci": ["github", "gitlab", "none"],
    "package_name": ["x", DEFAULT_PACKAGE, LONGEST_PACKAGE],
}
"""{question: the answers to try}: all choices, and names of every length."""


class _Including(yaml.SafeLoader):
    """Reads `!include FILE` as Copier does: the settings of another file in its place."""


_Including.add_constructor(
    "!include",
    lambda loader, node: yaml.safe_load((ROOT / node.value).read_text(encoding="utf-8")),
)


def settings() -> dict[str, Any]:
    """All of copier.yml, with what it includes."""
    with (ROOT / "copier.yml").open(encoding="utf-8") as file:
        parts = list(yaml.load_all(file, Loader=_Including))
    return {name: value for part in parts if part for name, value in part.items()}


def questions() -> dict[str, dict[str, Any]]:
    """The questions that are asked, by name."""
    return {
        name: question
        for name, question in settings().items()
        if not name.startswith("_") and question.get("when") is not False
    }


def choices(question: str) -> list[Any]:
    """What a question with choices may be answered."""
    offered = questions()[question]["choices"]
    return list(offered.values()) if isinstance(offered, dict) else offered


def pins() -> dict[str, Version]:
    """{package: the one version that constraints.txt allows}."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    split = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in split}


def render(template: Path, dst: Path, answers: Answers = {}, *, ref: str | None = None) -> Path:  # noqa: B006
    """Render `template` into `dst`, by default from its newest tag, and return `dst`.

    Copier ignores an answer to a question that nobody asks, and a test of it would test
    nothing; so this does not.
    """
    unknown = set(answers) - set(questions())
    assert not unknown, f"no such questions: {sorted(unknown)}"
    copier.run_copy(str(template), dst, data=dict(answers), defaults=True, quiet=True, vcs_ref=ref)
    return dst


def files_in(project: Path) -> set[str]:
    """Every file of a project, relative to it."""
    return {
        path.relative_to(project).as_posix()
        for path in project.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(project).parts
    }


def commit(folder: Path, *, tag: str | None = None) -> None:
    """Commit all that git does not ignore."""
    run(["git", "add", "--all"], folder)
    run(["git", "commit", "--quiet", "--message", tag or "edits"], folder)
    if tag is not None:
        run(["git", "tag", tag], folder)


def pairs(combination: Answers) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """All pairs of answers in a combination."""
    items = [(name, repr(value)) for name, value in combination.items()]
    return set(itertools.combinations(items, 2))


def pairwise(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Few combinations in which every pair of answers occurs: each brings most of what is left."""
    product = [
        dict(zip(factors, each, strict=True)) for each in itertools.product(*factors.values())
    ]
    missing = set().union(*map(pairs, product))
    chosen = []
    while missing:
        best = max(product, key=lambda combination: len(pairs(combination) & missing))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def label(combination: Answers) -> str:
    """A combination's name in the tests' output."""
    return "-".join(
        "+".join(v) or "none" if isinstance(v, list) else v for v in combination.values()
    )
