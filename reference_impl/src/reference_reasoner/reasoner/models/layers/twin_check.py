"""Whether what is faster gives on this machine what its twin in torch gives: asked before use.

Kernels are compiled where they run, for the GPU and by the compiler that are there. A fault of
either shows here, and the twin goes on serving, instead of in the middle of a training.
"""

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

TOLERANCE = 1e-2
"""Of the largest number; above what TF32 may do to the products of either side."""
Errors = Callable[[torch.device], Iterator[tuple[str, float]]]
"""device -> (what it is, how far it is from its twin) of each, by `apart`."""


def agrees(device: torch.device, errors: Errors, otherwise: str) -> bool:
    """Check that a kernel agrees with its twin; if not, a warning says `otherwise`, and why."""
    problem = ""
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            wrong = {name for name, error in errors(device) if not error <= TOLERANCE}
        if wrong:
            problem = f"other numbers than torch's from {' and '.join(sorted(wrong))}"
    except Exception as error:  # a compiler fails in ways of its own
        problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    if problem:
        warnings.warn(
            f"{otherwise} on {device} ({problem}); torch's own operators do, more slowly",
            stacklevel=3,
        )
    return not problem


def apart(found: Tensor, exact: Tensor) -> float:
    """Difference of twins: the largest one, as a share of the largest number."""
    return float((found - exact).abs().max() / exact.abs().max())
