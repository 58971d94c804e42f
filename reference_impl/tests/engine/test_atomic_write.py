"""Files are written whole or not at all, and what cannot be written is known before."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.atomic_write import replace_text, unwritable


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    replace_text(path, "old\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_text(path, "new\n")
    assert caught.value.filename == str(path)
    assert path.read_text(encoding="utf-8") == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    seen: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append(path.exists()))
    replace_text(path, "ü\n")
    assert seen == [False]
    assert path.read_bytes() == "ü\n".encode()


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
