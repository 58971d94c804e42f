"""Where a project's files go."""

from pathlib import Path

import pytest

from reference_reasoner.paths import project_root, runs_folder


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
