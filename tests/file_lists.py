"""Exactly which files an answer brings; `python -m tests.file_lists` accepts a change."""

import tempfile
from pathlib import Path
from typing import Any

from .rendering import DEFAULT_PACKAGE, ROOT, Answers, choices, files_in, render

FOLDER = Path(__file__).parent / "files"
ADDED: dict[tuple[str, str], set[str]] = {
    ("ci", "github"): {".github/workflows/ci.yml"},
    ("ci", "gitlab"): {".gitlab-ci.yml"},
    ("trackers", "tensorboard"): {
        "src/<package>/engine/tracking/tensorboard_sink.py",
        "tests/engine/tracking/test_tensorboard_sink.py",
    },
}
"""{(question, answer): the files that it adds to the example's}"""


def listed(example: str) -> set[str]:
    """The files that a project with this example has, whatever the other answers."""
    return set((FOLDER / f"{example}.txt").read_text(encoding="utf-8").split())


def expected_files(answers: Answers) -> set[str]:
    """The files of a project with these answers."""
    files = listed(answers["example"])
    for (question, answer), added in ADDED.items():
        given: Any = answers[question]
        if answer == given or (isinstance(given, list) and answer in given):
            files |= added
    return {name.replace("<package>", answers["package_name"]) for name in files}


def main() -> None:
    """Write down what the working tree renders, without what single answers add."""
    for example in choices("example"):
        with tempfile.TemporaryDirectory() as folder:
            answers = {"example": example, "trackers": [], "ci": "none"}
            project = render(ROOT, Path(folder) / "project", answers, ref="HEAD")
            found = files_in(project)
        files = {name.replace(f"/{DEFAULT_PACKAGE}/", "/<package>/") for name in found}
        (FOLDER / f"{example}.txt").write_text("\n".join(sorted(files)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
