"""What torch.compile may take for granted."""

from collections.abc import Callable
from typing import Any, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def known_when_compiling(function: FunctionT) -> FunctionT:
    """torch.compiler.assume_constant_result, but for its import of the compiler.

    That takes as long as importing torch, and most commands compile nothing.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
