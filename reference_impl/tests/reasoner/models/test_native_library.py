"""The C: built once, built anew where it changed, and a sentence where it cannot be built."""

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reference_reasoner.reasoner.models.memory.native import library as native_library
from reference_reasoner.reasoner.models.memory.native.arguments import Given
from reference_reasoner.reasoner.models.memory.native.library import call, is_built, library

from .c_compiler import needs_c


@pytest.fixture
def unbuilt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache with nothing in it, in a folder that is not there."""
    library.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    library.cache_clear()


@needs_c
def test_it_is_built_once(unbuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library() is not None
    (kept,) = (unbuilt / "reference_reasoner").iterdir()
    library.cache_clear()
    monkeypatch.setattr(native_library.subprocess, "run", lambda *_, **__: pytest.fail("again"))
    assert library() is not None
    assert [*kept.parent.iterdir()] == [kept]


@needs_c
def test_changed_c_is_built_anew(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native_library, "SOURCES", tmp_path / "native")
    shutil.copytree(Path(native_library.__file__).with_name("c"), tmp_path / "native")
    for count in (1, 2):
        library.cache_clear()
        assert library() is not None
        assert len([*(unbuilt / "reference_reasoner").iterdir()]) == count
        with (tmp_path / "native" / "decay.h").open("a") as header:
            header.write("/* other words */\n")


@needs_c
def test_a_damaged_file_is_built_anew(unbuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert library() is not None
    (damaged,) = (unbuilt / "reference_reasoner").iterdir()
    whole = damaged.read_bytes()
    damaged.unlink()  # what is loaded stays whole
    damaged.write_bytes(whole[: len(whole) // 2])  # loaded, it would end the process
    library.cache_clear()
    assert library() is not None
    assert max(len(each.read_bytes()) for each in damaged.parent.iterdir()) == len(whole)


@needs_c
def test_a_home_that_cannot_be_written_to_is_no_obstacle(unbuilt: Path) -> None:
    unbuilt.write_text("a file where a folder should be")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert library() is not None


@needs_c
def test_a_full_disk_leaves_nothing_half_copied(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: Path, to: Path) -> None:
        to.write_bytes(b"half of it")
        raise OSError("No space left on device")

    monkeypatch.setattr(native_library.shutil, "copyfile", half)
    assert library() is not None
    assert not [*(unbuilt / "reference_reasoner").iterdir()]


def test_without_a_compiler_there_is_none(unbuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native_library.shutil, "which", lambda name: None)
    with pytest.warns(UserWarning, match="no C compiler was found: install one, or name it in CC"):
        assert not is_built()
    assert not unbuilt.exists()


@pytest.mark.skipif(shutil.which("false") is None, reason="no command that fails")
def test_a_compiler_that_fails_is_named(unbuilt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false --of=this")
    with pytest.warns(UserWarning, match=r"serve \(false failed with exit code 1\); torch's own"):
        assert library() is None
    assert not unbuilt.exists()


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        ("gcc 'x", "CC is .*, which cannot be read: No closing quotation"),
        ("no-such-compiler -m64", "CC is 'no-such-compiler -m64', and there is no such command"),
    ],
)
def test_a_compiler_that_is_named_wrong_is_told(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch, named: str, sentence: str
) -> None:
    monkeypatch.setenv("CC", named)
    with pytest.warns(UserWarning, match=sentence):
        assert library() is None


@pytest.mark.skipif(shutil.which("true") is None, reason="no command that does nothing")
def test_a_compiler_that_makes_nothing_is_told(
    unbuilt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "true")
    with pytest.warns(UserWarning, match="true made no library"):
        assert library() is None


def test_what_goes_wrong_inside_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "library", lambda: {"memory_forward": lambda *_: 1})
    with pytest.raises(MemoryError, match="no memory left for the chunks"):
        call("memory_forward", Given())
    monkeypatch.setattr(native_library, "library", lambda: None)
    with pytest.raises(RuntimeError, match="is gone"):
        call("memory_forward", Given())
    with pytest.raises(ValueError, match="keep does not lie row by row"):
        Given.of(keep=torch.zeros(4, 4).T)
