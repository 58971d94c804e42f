"""Checkpoints: folders of tensors and JSON that are either whole or refused; and hashes of tensors.

A folder is written under a temporary name, each file is flushed to the disk, a manifest of
sha256 sums is written last, and only then the folder takes its name: a kill at any moment
leaves the old folders as they were. Loading verifies every sum. No pickle anywhere.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import RunFailedError
from . import failpoints

_MANIFEST = "manifest.json"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class DamagedError(Exception):
    """Error for a damaged checkpoint; the message names the file and what is wrong."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A checkpoint's snapshot: groups of tensors (`model`, `optimizer`, ...) and JSON values."""

    step: int
    groups: Mapping[str, Mapping[str, Tensor]]
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The newest whole snapshot below a folder, and why newer ones were refused."""

    snapshot: Snapshot | None
    refused: Mapping[Path, str] = field(default_factory=dict)


def folder_of(parent: Path, step: int) -> Path:
    """Where the snapshot of `step` stands below `parent`."""
    return parent / f"step-{step:08d}"


def save(parent: Path, snapshot: Snapshot) -> Path:
    """Write `snapshot` below `parent`, whole or not at all, and return its folder.

    Raises RunFailedError where the disk is full; what was saved before still holds.
    """
    target = folder_of(parent, snapshot.step)
    temporary = parent / f".{target.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _write_files(temporary, snapshot)
        failpoints.hit("checkpoint.before_rename")
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        failpoints.hit("checkpoint.after_rename")
        _sync(parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno not in DISK_FULL:
            raise
        kept = ", ".join(path.name for path in folders(parent)) or "none"
        raise RunFailedError(
            f"the disk is full: step {snapshot.step} was not saved to {parent}; kept: {kept}; "
            "free some space and go on with --resume"
        ) from error
    return target


def _write_files(folder: Path, snapshot: Snapshot) -> None:
    import safetensors.torch  # asked for here: a machine that only measures may lack it

    contents = {
        f"{group}.safetensors": safetensors.torch.save(_storable(tensors))
        for group, tensors in snapshot.groups.items()
    }
    values = {"step": snapshot.step, **snapshot.values}
    contents["state.json"] = json.dumps(values, indent=1, sort_keys=True).encode()
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[_MANIFEST] = json.dumps({"sha256": sums}, indent=1, sort_keys=True).encode()
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            failpoints.hit("checkpoint.before_fsync")
            os.fsync(file.fileno())
    _sync(folder)


def _storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses tensors that share memory (tied weights), so each gets its own
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _sync(folder: Path) -> None:
    """Flush a folder's list of names, without which a rename may be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(folder: Path) -> Snapshot:
    """Read a saved folder. Raises DamagedError unless every byte is as it was written."""
    import safetensors.torch

    contents: dict[str, bytes] = {}
    try:
        sums = json.loads((folder / _MANIFEST).read_bytes())["sha256"]
        for name in sums:
            contents[name] = (folder / name).read_bytes()
    except FileNotFoundError as error:
        raise DamagedError(f"{folder.name}: {Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{folder.name}: {_MANIFEST} cannot be read: {error}") from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise DamagedError(f"{folder.name}: {name} does not match its sha256")
    values = json.loads(contents.pop("state.json"))
    groups = {Path(n).stem: safetensors.torch.load(content) for n, content in contents.items()}
    return Snapshot(step=values.pop("step"), groups=groups, values=values)


def folders(parent: Path) -> list[Path]:
    """The saved folders below `parent`, oldest first, whether whole or not."""
    return sorted(path for path in parent.glob("step-*") if path.is_dir())


def newest(parent: Path) -> Found:
    """The newest whole snapshot below `parent`, and the newer ones that were refused."""
    refused: dict[Path, str] = {}
    for folder in reversed(folders(parent)):
        try:
            return Found(snapshot=load(folder), refused=refused)
        except DamagedError as error:
            refused[folder] = str(error)
    return Found(snapshot=None, refused=refused)


def set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither counted nor overwritten; its new name."""
    aside = folder.with_name(f"refused-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def keep_newest(parent: Path, count: int) -> None:
    """Remove all but the newest `count` saved folders, and what a kill left half-written."""
    for folder in [*folders(parent)[:-count], *parent.glob(".step-*.tmp")]:
        remove(folder)


def step_of(folder: Path) -> int:
    """The step that a saved folder is of."""
    return int(folder.name.removeprefix("step-"))


def remove(folder: Path) -> None:
    """Remove a saved folder; a kill half-way leaves no folder that counts as saved."""
    doomed = folder.with_name(f".{folder.name.strip('.')}.tmp")
    if folder != doomed:
        folder.rename(doomed)
    shutil.rmtree(doomed)


def load_weights(run_dir: Path, which: str) -> tuple[dict[str, Tensor], int]:
    """The verified weights of a run, on the CPU, and the step they are of.

    `best`: the weights that scored best. `raw` and `ema`: those of the newest whole checkpoint,
    `last`: those of them that the run selects on. Raises RunFailedError where there are none.
    """
    parent = run_dir / ("best" if which == "best" else "checkpoints")
    found = newest(parent)
    if found.snapshot is None:
        reasons = "; ".join(found.refused.values()) or "it holds none"
        raise RunFailedError(f"{parent} has no good checkpoint: {reasons}")
    snapshot = found.snapshot
    kind = snapshot.values.get("select_on", "raw") if which == "last" else which
    group = "ema" if kind == "ema" else "model"
    if group not in snapshot.groups:
        raise RunFailedError(f"{run_dir} keeps no averaged weights: its training.ema_decay is 0")
    return dict(snapshot.groups[group]), snapshot.step


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the tensors sorted by name: name, dtype, shape and bytes of each."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        _add_tensor(digest, name, tensors[name])
    return digest.hexdigest()


def state_sha256(groups: Mapping[str, Mapping[str, Tensor]], values: Mapping[str, Any]) -> str:
    """sha256 over named groups of tensors and the JSON values beside them."""
    digest = hashlib.sha256()
    for group in sorted(groups):
        for name in sorted(groups[group]):
            _add_tensor(digest, f"{group}/{name}", groups[group][name])
    digest.update(json.dumps(values, sort_keys=True).encode())
    return digest.hexdigest()


def _add_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    header = f"{len(name)}:{name}:{tensor.dtype}:{tuple(tensor.shape)};"
    digest.update(header.encode())
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest.update(flat.view(torch.uint8).numpy().tobytes())
