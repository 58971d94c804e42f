"""What a run was made with: only what is known, and only of this project."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.tracking import environment as module
from reference_reasoner.engine.tracking.environment import environment


@pytest.fixture(autouse=True)
def _own_git(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where a git hook runs tests
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setattr(module, "_packages", lambda: {"torch": "2"})


def _git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.com"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _commit(folder: Path) -> str:
    _git(folder, "init", "-q")
    _git(folder, "add", "--all")
    _git(folder, "commit", "-q", "-m", "first")
    return _git(folder, "rev-parse", "HEAD")


def test_it_says_what_json_can_hold(project: Path) -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert list(found) == [
        "python",
        "platform",
        "torch",
        "cuda",
        "driver",
        "gpu",
        "cpu_capability",
        "packages",
        "git",
        "template",
    ]
    assert found["torch"] == torch.__version__
    assert found["git"] is None
    assert found["template"] is None


def test_the_installed_packages_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    found = module._packages()
    assert list(found) == sorted(found)
    assert found["pytest"] == pytest.__version__


def test_a_clean_commit(project: Path) -> None:
    commit = _commit(project)
    assert environment()["git"] == {
        "commit": commit,
        "dirty": False,
        "diff": "",
        "diff_is_cut": False,
        "untracked": [],
    }


def test_changes_are_kept_as_a_diff_and_new_files_by_name(project: Path) -> None:
    (project / ".gitignore").write_text("ignored.txt\n", encoding="utf-8")
    _commit(project)
    (project / "ignored.txt").touch()
    assert environment()["git"]["dirty"] is False
    (project / "new.py").touch()
    found = environment()["git"]
    assert (found["dirty"], found["diff"], found["untracked"]) == (True, "", ["new.py"])
    (project / "pyproject.toml").write_text("changed = true\n", encoding="utf-8")
    assert "+changed = true" in environment()["git"]["diff"]


def test_a_long_diff_is_cut(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _commit(project)
    (project / "pyproject.toml").write_text("x\n" * 100, encoding="utf-8")
    monkeypatch.setattr(module, "_LONGEST_DIFF", 50)
    found = environment()["git"]
    assert len(found["diff"]) == 50
    assert found["diff_is_cut"] is True


def test_a_repository_around_the_project_is_not_its_own(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(project)
    inner = project / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").touch()
    monkeypatch.chdir(inner)
    assert environment()["git"] is None


def test_a_repository_without_a_commit_has_none(project: Path) -> None:
    _git(project, "init", "-q")
    assert environment()["git"] is None


def _no_programs(*words: Any, **options: Any) -> Any:
    raise FileNotFoundError("git")


def test_without_git_nothing_is_said_of_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", _no_programs)
    assert environment()["git"] is None


@pytest.mark.parametrize(
    ("answers", "version"),
    [("_commit: v1.2.0\n_src_path: x\n", "v1.2.0"), ("package_name: x\n", None)],
)
def test_the_version_of_the_template(project: Path, answers: str, version: str | None) -> None:
    (project / ".copier-answers.yml").write_text(answers, encoding="utf-8")
    assert environment()["template"] == version


@pytest.fixture
def _pretended_gpu(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(module, "_git", lambda root: None)


@pytest.mark.usefixtures("_pretended_gpu")
def test_a_gpu_and_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(query: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert query[0] == "nvidia-smi"
        return subprocess.CompletedProcess(query, 0, stdout="580.65\n580.65\n")

    monkeypatch.setattr(subprocess, "run", answer)
    found = environment()
    assert (found["gpu"], found["cuda"], found["driver"]) == ("GPU 0", "13.0", "580.65")


@pytest.mark.usefixtures("_pretended_gpu")
def test_a_gpu_whose_driver_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", _no_programs)
    assert environment()["driver"] is None
