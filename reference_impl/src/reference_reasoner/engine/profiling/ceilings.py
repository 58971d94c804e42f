"""What this machine can do at most: how fast it copies, and how fast it multiplies matrices.

The two ceilings of the roofline (Williams, Waterman and Patterson 2009, Roofline: an insightful
visual performance model), both measured in the process that measures the model, with its threads
and its settings.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .machine import Machine
from .timing import Limits, percentile, sample_ms

LIMITS = Limits(warm_up=2, samples=9, box_s=10.0)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""{training.precision: what matrix products are computed in}"""

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is copied and multiplied."""

    copy_bytes: int
    """Far above the caches, so that memory is measured."""
    matrix_rows: int
    """Of square matrices, large enough for the time of a call's start not to count."""


ON_A_CPU = Sizes(copy_bytes=256 * 2**20, matrix_rows=1024)
ON_A_GPU = Sizes(copy_bytes=512 * 2**20, matrix_rows=8192)


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Medians of what was reached."""

    bytes_per_s: float
    """Read and written by a copy from memory to memory."""
    flops_per_s: float
    """Of a product of two square matrices, by the faster of PyTorch's libraries."""

    @property
    def ridge(self) -> float:
        """FLOPs a byte from which on an operator is bound by computing."""
        return self.flops_per_s / self.bytes_per_s

    def bound_s(self, flops: float, moved_bytes: float) -> float:
        """Seconds that an operator takes at least (Williams et al. 2009, section 3)."""
        return max(flops / self.flops_per_s, moved_bytes / self.bytes_per_s)


def measured_ceilings(
    machine: Machine, precision: str, limits: Limits = LIMITS, sizes: Sizes | None = None
) -> Ceilings:
    """The ceilings of the machine's device in the precision of a run."""
    sizes = sizes or (ON_A_GPU if machine.device.type == "cuda" else ON_A_CPU)
    return Ceilings(
        bytes_per_s=2 * sizes.copy_bytes / _copy_s(machine, limits, sizes.copy_bytes),
        flops_per_s=2
        * sizes.matrix_rows**3
        / _product_s(machine, limits, sizes.matrix_rows, DTYPES[precision]),
    )


def _copy_s(machine: Machine, limits: Limits, size: int) -> float:
    source = torch.ones(size // 4, device=machine.device)
    target = torch.empty_like(source)
    return _median_s(lambda: target.copy_(source), machine, limits)


def _product_s(machine: Machine, limits: Limits, rows: int, dtype: torch.dtype) -> float:
    # neither zeros nor ones: GPUs compute faster where few bits change
    left, right = torch.linspace(-1, 1, 2 * rows * rows, device=machine.device).chunk(2)
    left, right = (x.view(rows, rows).to(dtype) for x in (left, right))
    out = torch.empty_like(left)
    ways: list[Callable[[], object]] = [lambda: torch.mm(left, right, out=out)]
    if left.device.type == "cpu" and dtype == torch.float32 and _ONEDNN is not None:
        # PyTorch asks MKL, which on CPUs that are not Intel's may be half as fast
        ways.append(lambda: _ONEDNN(left, right, None, "none", [], ""))
    return min(_median_s(way, machine, limits) for way in ways)


def _median_s(action: Callable[[], object], machine: Machine, limits: Limits) -> float:
    samples = sample_ms(action, clock=machine.clock, device=machine.device, limits=limits)
    return percentile(samples, 50) / 1e3
