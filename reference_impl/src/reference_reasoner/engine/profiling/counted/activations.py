"""What a forward pass keeps for the backward pass.

A storage counts once, however many tensors of it are kept, and whole: a kept view keeps all of
it. Parameters and buffers do not count, for they are there anyway; inputs that are kept do.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn

from ...training.device import blocks_of
from ..model_inputs import tensors_in


@dataclass(kw_only=True)
class Kept:
    """{storage's key: the storage}; holding them keeps a key from being given out again."""

    storages: dict[int, UntypedStorage] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> None:
        """Keep the tensor's storage."""
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage

    def bytes_without(self, others: "Kept") -> int:
        """Bytes of what is kept here and not in `others`."""
        found = self.storages
        return sum(found[key].nbytes() for key in found.keys() - others.storages.keys())

    def joined(self, others: Iterable["Kept"]) -> "Kept":
        """What is kept here or in any of `others`."""
        storages = dict(self.storages)
        for other in others:
            storages |= other.storages
        return Kept(storages=storages)


@dataclass(kw_only=True)
class Activations:
    """What one forward pass kept, by who keeps it under activation checkpointing."""

    own: Kept
    """Parameters and buffers."""
    outside: Kept = field(default_factory=Kept)
    """Kept outside of the model's blocks (training/device.py says what a block is)."""
    block_inputs: list[Kept] = field(default_factory=list)
    """One entry a call of a block."""
    in_blocks: list[Kept] = field(default_factory=list)
    """What is kept within each of these calls."""

    def all_bytes(self) -> int:
        """Bytes kept until backward when nothing is recomputed."""
        return self.outside.joined(self.in_blocks).bytes_without(self.own)

    def checkpointed_bytes(self) -> int:
        """Largest number of bytes at once when each call of a block is recomputed in backward.

        That is what is kept outside the blocks, the inputs of all calls, and what the largest
        call keeps while it is recomputed.
        """
        lasting = self.outside.joined(self.block_inputs)
        there = self.own.joined([lasting])
        recomputed = max((call.bytes_without(there) for call in self.in_blocks), default=0)
        return lasting.bytes_without(self.own) + recomputed


def saved_activations(model: nn.Module, forward: Callable[[], Any]) -> tuple[Activations, Any]:
    """What `forward`, a call of `model`, keeps for backward, and what it returns."""
    own = Kept()
    for tensor in (*model.parameters(), *model.buffers()):
        own.add(tensor)
    found = Activations(own=own)
    here = [found.outside]

    def pack(tensor: Tensor) -> Tensor:
        here[-1].add(tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with _watched(model, found, here), hooks:
        output = forward()
    return found, output


@contextmanager
def _watched(model: nn.Module, found: Activations, here: list[Kept]) -> Iterator[None]:
    """Within it, each call of a block keeps its own; a block inside a block belongs to that one."""

    def enter(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = here[-1]
        if len(here) == 1:
            call = Kept()
            inputs = Kept()
            for tensor in tensors_in((args, kwargs)):
                inputs.add(tensor)
            found.in_blocks.append(call)
            found.block_inputs.append(inputs)
        here.append(call)

    def leave(block: nn.Module, args: Any, output: Any) -> None:
        here.pop()

    handles = []
    for block in blocks_of(model):
        handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(block.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
