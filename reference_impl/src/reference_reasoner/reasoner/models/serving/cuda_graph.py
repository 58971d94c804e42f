"""Kernels recorded once and launched together, without the host in between (CUDA graphs)."""

from collections.abc import Callable

import torch

Run = Callable[[], None]
"""Reads and writes the same tensors in every call, and waits for nothing."""
Capture = Callable[[Run], Run]
"""What makes of a run one that does the same; tests pass one that gives the run back."""
WARM_UP = 3
"""Runs before the recording: they compile, choose kernels and allocate workspaces."""


def captured(run: Run) -> Run:
    """Record the kernels that `run` launches; calling the result launches all of them again.

    Whatever decides on values (a Python `if` on a tensor) was decided at the recording. Raises
    RuntimeError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("a CUDA graph needs a CUDA device, and torch finds none here")
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
