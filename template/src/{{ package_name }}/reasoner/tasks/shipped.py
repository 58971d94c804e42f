"""The weights that ship with the package, and the manifest that says what they are.

`weights/manifest.json` holds {name: facts}; a file of weights is called `NAME-<sha256, 8
characters>.safetensors`, so that other weights are another file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ...engine.atomic_write import replace_text
from ...engine.errors import RefusedInputError, RunFailedError

FOLDER = Path(__file__).resolve().parent.parent / "weights"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """Shipped weights: what the manifest says of one file of them."""

    name: str
    task: str
    preset: str
    """The preset that they were trained with, and whose model they fit."""
    sizes: list[int]
    """Rows of the puzzles that they can do."""
    threshold: float
    """Of the halting head, tuned on validation."""
    model_config_sha256: str
    sha256: str
    """Of the file."""
    trained: dict[str, Any]
    """Where they come from: steps, seed, weights' hash, scores on validation, versions."""

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / f"{self.name}-{self.sha256[:8]}.safetensors"

    def tensors(self) -> dict[str, Tensor]:
        """The weights. Raises RunFailedError where the file is missing or changed."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise RunFailedError(f"{self.path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise RunFailedError(f"{self.path} is damaged: its sha256 is not the manifest's")
        loaded: dict[str, Tensor] = safetensors.torch.load(content)
        return loaded


def shipped_weights() -> list[Shipped]:
    """List all shipped weights, in the manifest's order.

    Raises RefusedInputError if it is broken.
    """
    path = FOLDER / MANIFEST
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [Shipped(name=name, **facts) for name, facts in entries.items()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RefusedInputError(f"{path} is no manifest of weights: {error}") from error


def ship(name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Shipped:
    """Put weights into the package under `name`, in the place of those of that name.

    `facts` are those of `Shipped` but `name` and `sha256`. The manifest changes last, and an
    older file goes after that.
    """
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    new = Shipped(name=name, sha256=hashlib.sha256(content).hexdigest(), **facts)
    known = {each.name: each for each in shipped_weights()}
    FOLDER.mkdir(exist_ok=True)
    new.path.write_bytes(content)
    entries = {k: asdict(v) for k, v in sorted({**known, name: new}.items())}
    for entry in entries.values():
        del entry["name"]
    replace_text(FOLDER / MANIFEST, json.dumps(entries, indent=2) + "\n")
    if name in known and known[name].path != new.path:
        known[name].path.unlink(missing_ok=True)
    return new
