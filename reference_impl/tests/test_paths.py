"""Where a project's files go."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.paths import project_root, runs_folder, unwritable


def test_the_nearest_pyproject_is_the_root(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = project / "notebooks" / "old"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    assert project_root() == project
    assert runs_folder() == project / "runs"
    assert not runs_folder().exists()


def test_an_inner_project_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = project / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").touch()
    monkeypatch.chdir(inner)
    assert project_root() == inner


def test_without_a_pyproject_it_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").mkdir()  # a folder of that name is none
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: path.parent == Path("/nowhere"))
    assert project_root() == tmp_path


def test_a_file_that_cannot_be_written_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").touch()
    for name in ("there", "new"):
        assert unwritable(tmp_path / name) is None
    assert os.listdir(tmp_path) == ["there"]  # nothing is left of the question
    missing = tmp_path / "no"
    assert unwritable(missing / "x.json") == f"there is no folder {missing}"
    assert unwritable(tmp_path) == "it is a folder"

    def refusing(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refusing)
    for name in ("there", "new"):  # one that is there would be replaced
        said = unwritable(tmp_path / name)
        assert said == f"no file can be written in {tmp_path}: Permission denied"
    os.mkfifo(tmp_path / "pipe")
    assert unwritable(tmp_path / "pipe") is None
