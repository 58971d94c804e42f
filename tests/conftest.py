"""What every test stands on: an environment of its own, and the template as users get it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .environments import run
from .rendering import ROOT, commit

# safe.directory: a checkout may belong to another user than the one who runs the tests
GIT_SETTINGS = """
[commit]
gpgsign = false
[core]
autocrlf = false
[init]
defaultBranch = main
[safe]
directory = *
[tag]
gpgsign = false
[user]
name = A Test
email = test@example.com
"""

LONGEST = "test_the_reasoners_own_tests_pass_and_cover_enough"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test comes first: at the end one of two workers would wait for the other."""
    items.sort(key=lambda item: item.name != LONGEST)


@pytest.fixture(scope="session", autouse=True)
def hermetic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's settings of git or copier, and a home folder that holds nothing else."""
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text(GIT_SETTINGS, encoding="utf-8")
    (home / "copier.yml").write_text("{}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):  # set inside a git hook
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("COPIER_SETTINGS_PATH", str(home / "copier.yml"))
        patch.setenv("COPIER_CACHE_DIR", str(home / "copier"))
        yield


@pytest.fixture(scope="session")
def source(hermetic: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as it is, in a folder without a repository.

    Copier renders it where it stands, in half the time: of a repository it first makes a clone.
    Copied, so that uncommitted changes come along and a shallow checkout serves as well.
    """
    folder = tmp_path_factory.mktemp("source") / "ml-expert"
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, run(asked, ROOT).split("\0")):
        if (ROOT / name).is_file():  # a deletion may be uncommitted too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def template(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as users get it: a repository, whose one commit has the tag 1.0.0.

    Tests only read it; those that change a template copy it first.
    """
    folder = tmp_path_factory.mktemp("template") / "ml-expert"
    shutil.copytree(source, folder)
    run(["git", "init", "--quiet"], folder)
    commit(folder, tag="1.0.0")
    return folder
