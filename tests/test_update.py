"""`copier update` from an old tag to a new one: nothing that a user did is lost.

One user edits a file of every class of ownership, and one update meets all of the edits.
"""

import shutil
from pathlib import Path

import pytest
import yaml

from .rendering import commit, files_in, render
from .updating import (
    EDITED,
    EDITED_ALWAYS,
    NEW_BINARY,
    OLD_BINARY,
    USERS_BINARY,
    conflicts,
    edit_template,
    edit_users_project,
    insert_first,
    plant,
    replace_first,
    started_project,
    status,
    update,
)

SOURCE = Path("src/my_experiment")
KEPT = {"CHANGELOG.md", "LICENSE", "MODEL_CARD.md", "assets/weights.safetensors"}


@pytest.fixture(scope="module")
def versions(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with the tags 1.1.0, from which projects start, and 1.2.0."""
    folder = tmp_path_factory.mktemp("versions") / "template"
    shutil.copytree(template, folder)
    plant(folder)
    commit(folder, tag="1.1.0")
    edit_template(folder)
    commit(folder, tag="1.2.0")
    return folder


@pytest.fixture(scope="module", params=EDITED)
def example(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def edited(versions: Path, example: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 1.1.0 with a user's edits, updated to 1.2.0."""
    folder = tmp_path_factory.mktemp("edited")
    project = started_project(versions, folder / "project", "1.1.0", example)
    edit_users_project(project, example)
    commit(project)
    update(project)
    return project


def text(project: Path, name: str | Path) -> str:
    return (project / name).read_text(encoding="utf-8")


def test_nothing_conflicts(edited: Path) -> None:
    assert conflicts(edited) == set()
    assert not [name for name in files_in(edited) if name.endswith((".rej", ".orig"))]


def test_in_a_seed_and_in_a_file_of_the_templates_both_edits_survive(
    edited: Path, example: str
) -> None:
    for name in (*EDITED[example], *EDITED_ALWAYS):
        lines = text(edited, SOURCE / name).splitlines()
        assert lines[0] == "# the template's edit", name
        assert lines[-1] == "# the user's edit", name


def test_a_deleted_file_stays_deleted(edited: Path) -> None:
    assert not (edited / "REPRODUCIBILITY.md").exists()


def test_an_added_file_stays(edited: Path) -> None:
    assert text(edited, SOURCE / "mine/model.py") == "MINE = True\n"


def test_the_templates_new_file_arrives(edited: Path) -> None:
    assert text(edited, SOURCE / "brought.py") == "BY = 'the template'\n"


def test_dependencies_in_different_gaps_are_both_there(edited: Path) -> None:
    lines = text(edited, "pyproject.toml").splitlines()
    assert '  "einops>=0.8",' in lines  # the user's
    assert '  "polars>=1",' in lines  # the template's
    assert '  "zstandard>=0.23",' in lines  # the user's


def test_a_replaced_binary_is_the_users(edited: Path) -> None:
    assert (edited / "assets/weights.safetensors").read_bytes() == USERS_BINARY


def test_a_retired_file_stays_with_who_edited_it(edited: Path) -> None:
    assert text(edited, "AGENTS.md").endswith("# the user's edit\n")


def test_a_path_that_merely_vanishes_takes_the_users_edits_along(edited: Path) -> None:
    """Why CONTRIBUTING.md wants a retired path in `_exclude`: this is what Copier does."""
    assert not (edited / SOURCE / "vanishing.py").exists()


def test_the_kept_class_is_the_users_and_a_deleted_one_returns(edited: Path) -> None:
    assert text(edited, "CHANGELOG.md").endswith("# the user's edit\n")
    assert "the template's edit" not in text(edited, "CHANGELOG.md")
    assert "MIT License" in text(edited, "LICENSE")  # it was deleted


def test_no_answer_changes(edited: Path) -> None:
    answers = yaml.safe_load(text(edited, ".copier-answers.yml"))
    assert answers["year"] == "1999"
    assert answers["_commit"] == "1.2.0"


def test_an_update_to_the_same_version_changes_nothing(edited: Path) -> None:
    commit(edited)
    update(edited)
    assert status(edited) == ""


def test_an_unedited_project_becomes_a_fresh_one(
    versions: Path, example: str, tmp_path: Path
) -> None:
    project = started_project(versions, tmp_path / "project", "1.1.0", example)
    update(project)
    fresh = render(versions, tmp_path / "fresh", {"year": "1999", "example": example})
    retired = {"AGENTS.md"}  # whoever has it keeps it, edited or not
    assert files_in(project) == files_in(fresh) | retired
    different = {
        name
        for name in files_in(fresh)
        if (project / name).read_bytes() != (fresh / name).read_bytes()
    }
    assert different == {"CHANGELOG.md", "assets/weights.safetensors"}
    assert different <= KEPT
    assert (project / "assets/weights.safetensors").read_bytes() == OLD_BINARY
    assert (fresh / "assets/weights.safetensors").read_bytes() == NEW_BINARY


def test_what_both_sides_changed_does_conflict(versions: Path, tmp_path: Path) -> None:
    """The positive control: the tests above would notice a conflict."""
    project = started_project(versions, tmp_path / "project", "1.1.0")
    engine = SOURCE / "engine"
    line, place = engine / "config/run_config.py", engine / "seeding.py"
    file = SOURCE / "brought.py"
    replace_first(project / line, '"""What the user says."""')
    insert_first(project / place, "# the user's edit, at the same place")
    (project / file).write_text("BY = 'the user'\n", encoding="utf-8")
    commit(project)
    update(project)  # leaves with 0, as the README says
    assert conflicts(project) == {line.as_posix(), place.as_posix(), file.as_posix()}
    for name in (line, place, file):
        merged = text(project, name)
        assert "<<<<<<< before updating" in merged
        assert "the user" in merged, "the user's side is lost"
        assert "the template" in merged, "the template's side is lost"


def test_no_answer_of_another_ci_leaves_a_file_behind(versions: Path, tmp_path: Path) -> None:
    project = started_project(versions, tmp_path / "project", "1.2.0")
    update(project, "--vcs-ref=:current:", "--data", "ci=gitlab")
    assert not (project / ".github/workflows/ci.yml").exists()
    assert (project / ".gitlab-ci.yml").is_file()
