"""Saved folders are whole or refused, whatever happens while they are written."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.errors import RunFailedError
from reference_reasoner.engine.training import checkpoint, failpoints
from reference_reasoner.engine.training.checkpoint import DamagedError, Snapshot


def snapshot(step: int, value: float = 1.0) -> Snapshot:
    groups = {"model": {"w": torch.full((3,), value)}, "optimizer": {"w/step": torch.tensor(2.0)}}
    return Snapshot(step=step, groups=groups, values={"select_on": "raw", "guard": {"n": 1}})


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_snapshot_comes_back_equal(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, snapshot(7))
    found = checkpoint.load(folder)
    assert (found.step, dict(found.values)) == (7, {"select_on": "raw", "guard": {"n": 1}})
    torch.testing.assert_close(found.groups["model"]["w"], torch.ones(3), rtol=0, atol=0)
    assert found.groups["optimizer"]["w/step"].shape == ()


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_flipped_byte_or_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path, snapshot(1))
    for damage in (flip_last_byte, Path.unlink):
        folder = checkpoint.save(tmp_path, snapshot(2))
        damage(folder / name)
        with pytest.raises(DamagedError, match=f"step-00000002: {name}"):
            checkpoint.load(folder)
        found = checkpoint.newest(tmp_path)
        assert found.snapshot is not None
        assert found.snapshot.step == 1
        assert list(found.refused) == [folder]


def test_a_half_written_folder_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, snapshot(1))
    (tmp_path / ".step-00000002.tmp").mkdir()
    (tmp_path / "step-00000003").mkdir()
    found = checkpoint.newest(tmp_path)
    assert found.snapshot is not None
    assert found.snapshot.step == 1
    assert [p.name for p in found.refused] == ["step-00000003"]
    checkpoint.keep_newest(tmp_path, 2)
    assert not (tmp_path / ".step-00000002.tmp").exists()


def test_a_refused_folder_is_set_aside(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, snapshot(1))
    assert checkpoint.set_aside(folder).name == "refused-step-00000001"
    assert checkpoint.folders(tmp_path) == []


def test_everything_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file, the temporary folder, the rename, then the parent: in this order."""
    events: list[str] = []
    fsync = os.fsync
    rename = Path.rename

    def noted_fsync(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        events.append(f"rename to {Path(target).name}")
        return rename(self, target)

    monkeypatch.setattr(checkpoint.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    checkpoint.save(tmp_path / "all", snapshot(5))
    assert events == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "manifest.json",
        ".step-00000005.tmp",
        "rename to step-00000005",
        "all",
    ]


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, snapshot(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    words = r"disk is full: step 2 was not saved to .*; kept: step-00000001"
    with pytest.raises(RunFailedError, match=words):
        checkpoint.save(tmp_path, snapshot(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_another_error_of_the_disk_is_not_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(checkpoint.os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        checkpoint.save(tmp_path, snapshot(2))


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (3, 1, 20, 100):
        checkpoint.save(tmp_path, snapshot(step))
    checkpoint.keep_newest(tmp_path, 2)
    assert [checkpoint.step_of(f) for f in checkpoint.folders(tmp_path)] == [20, 100]


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, snapshot(1, 1.0))
    folder = checkpoint.save(tmp_path, snapshot(1, 2.0))
    assert checkpoint.load(folder).groups["model"]["w"].tolist() == [2.0] * 3


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    shared = torch.ones(2)
    tied = Snapshot(step=1, groups={"model": {"a": shared, "b": shared}}, values={})
    assert set(checkpoint.load(checkpoint.save(tmp_path, tied)).groups["model"]) == {"a", "b"}


@pytest.mark.parametrize(("select_on", "value"), [("raw", 1.0), ("ema", 5.0)])
def test_the_last_weights_are_those_that_the_run_selects_on(
    tmp_path: Path, select_on: str, value: float
) -> None:
    groups: dict[str, Any] = {"model": {"w": torch.ones(1)}, "ema": {"w": torch.full((1,), 5.0)}}
    saved = Snapshot(step=4, groups=groups, values={"select_on": select_on})
    checkpoint.save(tmp_path / "checkpoints", saved)
    tensors, step = checkpoint.load_weights(tmp_path, "last")
    assert (tensors["w"].tolist(), step) == ([value], 4)


def test_a_run_without_good_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="best has no good checkpoint: it holds none"):
        checkpoint.load_weights(tmp_path, "best")


def test_a_manifest_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    folder = checkpoint.save(tmp_path, snapshot(1))
    (folder / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(DamagedError, match=r"manifest\.json cannot be read"):
        checkpoint.load(folder)


def test_a_failpoint_fires_at_its_count_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(failpoints, "_armed", "step:2:SIGTERM")
    monkeypatch.setattr(failpoints, "_reached", failpoints.Counter())
    monkeypatch.setattr(failpoints.os, "kill", lambda process, number: sent.append(number))
    monkeypatch.setenv("FAILPOINT_LOG", str(tmp_path / "log"))
    for name in ("step", "evaluation", "step", "step"):
        failpoints.hit(name)
    assert sent == [15]
    assert (tmp_path / "log").read_text().split()[:3] == ["step", "2", "SIGTERM"]
    monkeypatch.delenv("FAILPOINT_LOG")
    monkeypatch.setattr(failpoints, "_reached", failpoints.Counter({"step": 1}))
    failpoints.hit("step")
    assert sent == [15, 15]
