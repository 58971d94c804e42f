"""How our own functions look to torch.compile, without importing the compiler.

That import takes as long as torch's own, and most commands compile nothing.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def known_when_compiling(function: FunctionT) -> FunctionT:
    """torch.compiler.assume_constant_result: compiled code asks once, while it is compiled."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def operator(
    name: str, compute: Callable[..., Any], shaped: Callable[..., Any] | None = None
) -> Any:
    """`compute` for tensors of CPUs as one piece, which nothing looks into: torch.ops' entry.

    `name` is `<where operators live>::<name>`. `shaped` gives results without numbers for
    arguments without numbers; by default `compute` itself can. Unlike torch.library.custom_op it
    adds no check to each call: results must be in memory of their own.
    """
    torch.library.define(name, torch.library.infer_schema(compute, mutates_args=()))
    torch.library.impl(name, "CPU", compute)
    torch.library.register_fake(name, shaped or compute)
    space, _, short = name.partition("::")
    return getattr(getattr(torch.ops, space), short)


def own_memory(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Copy an operator's results where they must not share memory, or do not lie row by row."""
    # the size is asked for so that torch.compile need not know it
    return [
        x.clone(memory_format=torch.contiguous_format)
        if any(x is y for y in given) or x.untyped_storage().nbytes() != x.numel() * x.itemsize
        else x.contiguous()
        for x in results
    ]
