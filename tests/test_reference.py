"""reference_impl/ is what the template renders, and nobody edited it."""

import shutil
from pathlib import Path

import pytest
import yaml

from .environments import run
from .reference import (
    ANSWERS_FILE,
    FIXED,
    FOLDER,
    answers,
    differences,
    own_files,
    render_reference,
)
from .rendering import ROOT, files_in, questions


@pytest.fixture(scope="module")
def fresh(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the working tree renders."""
    return render_reference(template, tmp_path_factory.mktemp("reference") / "project")


def test_it_is_what_the_template_renders(fresh: Path) -> None:
    changed = differences(fresh, files_in(fresh), FOLDER, own_files(FOLDER))
    assert changed == [], "nox -s render_reference, and commit both"


def test_a_changed_a_missing_and_an_added_byte_are_noticed(fresh: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(fresh, copy)
    whole = files_in(fresh)
    assert differences(fresh, whole, copy, files_in(copy)) == []
    with (copy / "README.md").open("ab") as file:
        file.write(b" ")
    (copy / "LICENSE").unlink()
    (copy / "added.py").touch()
    found = differences(fresh, whole, copy, files_in(copy))
    assert found == ["LICENSE", "README.md", "added.py"]


def test_its_answers_are_all_given_and_name_no_machine() -> None:
    assert set(answers()) == set(questions())
    kept = yaml.safe_load((FOLDER / ANSWERS_FILE).read_text(encoding="utf-8"))
    assert kept == {**answers(), **FIXED}


def test_reviews_fold_it_away() -> None:
    attributes = run(["git", "check-attr", "linguist-generated", "reference_impl/README.md"], ROOT)
    assert attributes.strip().endswith(": set") or attributes.strip().endswith(": true")
