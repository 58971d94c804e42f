"""The two hashes of a run, by which one run is said to equal another."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


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
