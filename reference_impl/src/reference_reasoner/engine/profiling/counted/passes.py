"""What a pass keeps for its backward pass, and what its operators compute and move; all counted.

A storage that is kept counts once, however many tensors of it are kept, and whole: a kept view
keeps all of it. Parameters and buffers do not count, for they are there anyway; inputs that are
kept do. An operand counts once a call of an operator, read or written, as if no cache kept it and
no other operator were fused with it; rows that are picked out of a table count as rows, and a
dimension that is only expanded counts as one. FLOPs are those of torch's own counter (a
multiply-add is two), one a number for pointwise operators, and none where neither knows any.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, UntypedStorage, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

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


_ALLOCATING = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_OVERWRITING = {"copy_", "fill_", "zero_", "normal_", "uniform_"}
_PICKING = {"embedding", "gather", "index", "index_select"}
_PLACING = {"index_copy_", "index_put_", "_index_put_impl_", "scatter_"}


_aten = torch.ops.aten
_FORMULAS = {
    # torch counts these on a GPU only
    _aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[
        _aten._scaled_dot_product_flash_attention
    ],
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[
        _aten._scaled_dot_product_flash_attention_backward
    ],
}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of one operator."""

    operator: str
    """As the profiler names it, such as aten::mm."""
    flops: int
    moved_bytes: int
    """0 for views and for what only allocates."""


def counted_calls(action: Callable[[], object]) -> list[Call]:
    """The operators of one `action`, in order. Raises what an operator that refuses it raises."""
    with _Counter() as counter:
        action()
    return counter.calls


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _formula(func) is None:
            with self:  # without gradients, operators that are made of others arrive whole
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        self.calls.append(
            Call(
                operator=func._schema.name,
                flops=_flops(func, args, kwargs, out),
                moved_bytes=_moved_bytes(func, args, kwargs, out),
            )
        )
        return out


def _formula(func: Any) -> Callable[..., Any] | None:
    """Torch's own, or what a model registered for an operator of its own."""
    packet = func._overloadpacket
    found: Callable[..., Any] | None = _FORMULAS.get(packet, flop_registry.get(packet))
    return found


def _flops(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    formula = _formula(func)
    if formula is not None:
        return int(formula(*args, **kwargs, out_val=out))
    if func is _aten.linalg_solve_triangular.default:
        return int(out.numel() * args[0].shape[-1])  # n / 2 multiply-adds a number
    if torch.Tag.pointwise not in func.tags or func._overloadpacket.__name__ in _OVERWRITING:
        return 0
    return sum(x.numel() for x in _tensors(out) if x.is_floating_point())


def _moved_bytes(func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> int:
    name = func._overloadpacket.__name__
    if func.is_view or name in _ALLOCATING:
        return 0
    values = [*args, *kwargs.values()]
    names = [each.name for each in func._schema.arguments[: len(args)]] + list(kwargs)
    by_name = dict(zip(names, values, strict=True))
    fresh = {each.name for each in func._schema.arguments if each.is_out}
    read = {key: value for key, value in by_name.items() if key not in fresh}
    first = names[0] if names else ""
    if name in _OVERWRITING or name in _PLACING:
        read.pop(first)
    if name in _PICKING:
        return _bytes(x for key, x in read.items() if key != first) + 2 * _bytes(out)
    if name in _PLACING:
        sources = [x for x in tree_leaves(list(read.values())) if isinstance(x, Tensor)]
        placed = sources[-1:]  # each row of it is read, and written to its place
        return _bytes(sources) + _bytes(placed)
    written = [by_name[each.name] for each in func._schema.arguments if _is_written(each, by_name)]
    results = [x for x in _tensors(out) if not _is_among(x, _tensors([read, written]))]
    return _bytes(read.values()) + _bytes(written) + _bytes(results)


def _is_written(argument: Any, given: dict[str, Any]) -> bool:
    alias = argument.alias_info
    return argument.name in given and alias is not None and bool(alias.is_write)


def _is_among(result: Tensor, tensors: Iterable[Tensor]) -> bool:
    """Whether `result` lies where one of `tensors` lies: it is that one, and moved nothing."""
    place = result.untyped_storage()._cdata
    return any(x.untyped_storage()._cdata == place for x in tensors)


def _tensors(values: Any) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _bytes(values: Any) -> int:
    """Bytes of the tensors in `values`; numbers that share their place count as one."""
    leaves = _tensors(values if isinstance(values, Tensor | tuple | list) else list(values))
    return sum(_own_numbers(x) * x.element_size() for x in leaves)


def _own_numbers(x: Tensor) -> int:
    count = 1
    for size, stride in zip(x.shape, x.stride(), strict=True):
        count *= size if stride or not size else 1
    return count
