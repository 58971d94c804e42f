"""The roofline: how near a pass comes to what this machine can do, operator by operator.

The roofline is that of Williams, Waterman and Patterson 2009; its ceilings are measured in the same
process, FLOPs and bytes are counted (counted/operator_work.py), times are medians. MFU is that of
PaLM (Chowdhery et al. 2022, appendix B): the FLOPs that the model asks for, recomputation not
among them, against the matrix products of the machine. MBU is its twin for memory: the bytes that
operators read and write against the copies of the machine. On a CPU both may come from caches,
which are faster than memory: a fraction can then be above 100 %.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..counted.passes import Call, counted_calls
from ..counted.quantities import in_short
from .machine import NO_NVML, Limits, Machine, energy_j, percentile, sample_ms

CEILING_LIMITS = Limits(warm_up=2, samples=9, box_s=10.0)
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
    machine: Machine, precision: str, limits: Limits = CEILING_LIMITS, sizes: Sizes | None = None
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


_MOST_OPERATORS = 10
_COPIES = ("Memcpy", "Memset")


def profiled(
    action: Callable[[], object], machine: Machine, trace: Path | None = None
) -> dict[str, Any]:
    """`operator_figures` of one call of `action`; `trace` becomes its Chrome trace, for Perfetto.

    The folder of `trace` is made if it is not there.
    """
    seen = _recorded(action, machine)
    if trace is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        temporary = trace.with_name(f".{trace.name}")
        seen.export_chrome_trace(str(temporary))
        temporary.replace(trace)
    return operator_figures(seen.key_averages(), on_gpu=machine.on_gpu)


def _recorded(action: Callable[[], object], machine: Machine) -> Any:
    """torch's profile of one call."""
    activities = [ProfilerActivity.CPU]
    if machine.on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as seen:
        action()
        machine.clock.synchronise(machine.device)
    return seen


def operator_times(
    action: Callable[[], object], machine: Machine, names: Collection[str], limits: Limits
) -> tuple[dict[str, float], int | None]:
    """{operator: ms of all its calls in one `action`, median}, and the kernels of the last one.

    An operator of `names` has the time of those that it calls, unless one of `names` called it;
    on a GPU the time is that of kernels. Kernels are None elsewhere.
    """
    began = machine.clock.now()
    runs: list[dict[str, float]] = []
    kernels = 0
    for count in range(limits.warm_up + limits.samples):
        events = _recorded(action, machine).events() or []
        kernels = sum(_is_kernel(event) for event in events)
        if count >= limits.warm_up or machine.clock.now() - began >= limits.box_s:
            runs.append(outermost_ms(events, names, on_gpu=machine.on_gpu))
        if machine.clock.now() - began >= limits.box_s:
            break
    found = {name: percentile([run.get(name, 0.0) for run in runs], 50) for name in names}
    return found, kernels if machine.on_gpu else None


def outermost_ms(
    events: Iterable[Any], names: Collection[str], *, on_gpu: bool
) -> dict[str, float]:
    """{name: ms of its events that lie in no other event of `names`}; `events` of the profiler."""
    attribute = "device_time_total" if on_gpu else "cpu_time_total"
    found: dict[str, float] = {}
    for event in events:
        if event.device_type.name != "CPU" or event.name not in names:
            continue
        outer = event.cpu_parent
        while outer is not None and outer.name not in names:
            outer = outer.cpu_parent
        if outer is None:
            spent_ms = float(getattr(event, attribute)) / 1e3
            found[event.name] = found.get(event.name, 0.0) + spent_ms
    return found


def operator_figures(events: Iterable[Any], *, on_gpu: bool) -> dict[str, Any]:
    """`top_operators` by self time, and how many kernels (GPU) or operator calls (CPU) there are.

    `events` are those of torch's key_averages(). On a GPU an operator's time is that of the
    kernels that it started.
    """
    everything = list(events)
    on_cpu = [event for event in everything if event.device_type.name == "CPU"]
    attribute = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times_us = {event.key: float(getattr(event, attribute)) for event in on_cpu}
    total_us = sum(times_us.values())
    calls = {event.key: int(event.count) for event in on_cpu}
    ranked = sorted((name for name, time in times_us.items() if time > 0), key=times_us.__getitem__)
    kernels = sum(int(event.count) for event in everything if _is_kernel(event))
    return {
        "operators_by": "GPU time of their kernels" if on_gpu else "CPU time",
        "top_operators": [
            {
                "operator": name,
                "self_time_ms": times_us[name] / 1e3,
                "self_time_share_percent": 100 * times_us[name] / total_us,
                "calls": calls[name],
            }
            for name in reversed(ranked[-_MOST_OPERATORS:])
        ],
        "kernels_per_step": kernels if on_gpu else None,
        "operator_calls_per_step": sum(calls[name] for name in calls if name.startswith("aten::")),
    }


def _is_kernel(event: Any) -> bool:
    """Whether it ran on the GPU and is neither a copy nor the span of a user's annotation."""
    if event.device_type.name != "CUDA" or getattr(event, "is_user_annotation", False):
        return False
    return not str(event.key).startswith(_COPIES)


LIMITS = Limits(warm_up=1, samples=5, box_s=10.0)
COMPILED = "a compiled pass is one operator: profile it with runtime.compile False"


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward pass or a training step."""

    run: Callable[[], object]
    examples: int
    model_flops: float
    """What its matrix products need, counted by exact.py; nothing that is recomputed."""
    median_ms: float
    compiled: bool


@dataclass(kw_only=True)
class _Operator:
    """All calls of one operator."""

    calls: list[Call] = field(default_factory=list)

    def values(self, name: str, time_ms: float, all_ms: float, roof: Ceilings) -> dict[str, Any]:
        flops = sum(call.flops for call in self.calls)
        moved = sum(call.moved_bytes for call in self.calls)
        bound_ms = bound_ms_of(self.calls, roof)
        computing_ms = bound_ms_of([call for call in self.calls if _computes(call, roof)], roof)
        return {
            "operator": name,
            "calls": len(self.calls),
            "time_ms": time_ms,
            "time_share_percent": 100 * time_ms / all_ms,
            "work_gflop": flops / 1e9,
            "moved_mb": moved / 1e6,
            "intensity_flop_per_byte": flops / moved if moved else None,
            "bound": _bound(bound_ms, computing_ms),
            "bound_ms": bound_ms,
            "bound_reached_percent": 100 * bound_ms / time_ms,
        }


def bound_ms_of(calls: Sequence[Call], roof: Ceilings) -> float:
    """The least time that the calls take one after another, each at the roof above it."""
    return 1e3 * sum(roof.bound_s(call.flops, call.moved_bytes) for call in calls)


def _computes(call: Call, roof: Ceilings) -> bool:
    return call.flops > roof.ridge * call.moved_bytes


def _bound(bound_ms: float, computing_ms: float) -> str:
    """`compute` or `memory`, whichever has more of the bound; `none` where nothing is done."""
    if not bound_ms:
        return "none"
    return "compute" if 2 * computing_ms > bound_ms else "memory"


def operator_rows(
    calls: Sequence[Call], times_ms: Mapping[str, float], roof: Ceilings
) -> list[dict[str, Any]]:
    """The operators that take the most time, the slowest first.

    `times_ms` is {operator: ms of all of its calls}; operators without a time are left out.
    """
    found: dict[str, _Operator] = {}
    for call in calls:
        found.setdefault(call.operator, _Operator()).calls.append(call)
    all_ms = sum(times_ms.values())
    ranked = sorted((name for name in found if times_ms.get(name)), key=times_ms.__getitem__)
    return [
        found[name].values(name, times_ms[name], all_ms, roof)
        for name in reversed(ranked[-_MOST_OPERATORS:])
    ]


def pass_values(
    each: Pass, machine: Machine, roof: Ceilings, limits: Limits = LIMITS
) -> dict[str, Any]:
    """The pass against the roof. What cannot be had is None, with the reason beside it."""
    calls, reason = _counted(each)
    names = {call.operator for call in calls or ()}
    times_ms, kernels = operator_times(each.run, machine, names, limits)
    launches, moved, bound_ms = kernels, None, None
    if calls is not None:
        launches = kernels if machine.on_gpu else sum(call.moved_bytes > 0 for call in calls)
        moved = sum(call.moved_bytes for call in calls)
        bound_ms = bound_ms_of(calls, roof)
    seconds = each.median_ms / 1e3
    return {
        "batch_examples": each.examples,
        "median_ms": each.median_ms,
        "launches_per_pass": launches,
        "model_gflop": each.model_flops / 1e9,
        "moved_mb": None if moved is None else moved / 1e6,
        "mfu_percent": 100 * each.model_flops / seconds / roof.flops_per_s,
        "mbu_percent": None if moved is None else 100 * moved / seconds / roof.bytes_per_s,
        "bound_ms": bound_ms,
        "bound_reached_percent": None if bound_ms is None else 100 * bound_ms / each.median_ms,
        **_energy(each, machine),
        "operators": operator_rows(calls or (), times_ms, roof),
        "operators_reason": reason,
    }


def _counted(each: Pass) -> tuple[list[Call] | None, str | None]:
    """The pass's operators, or why there are none to count."""
    if each.compiled:
        return None, COMPILED
    try:
        return counted_calls(each.run), None
    except Exception as error:  # whatever an operator raises that no counter may look into
        return None, f"the operators cannot be counted: {in_short(error)}"


def _energy(each: Pass, machine: Machine) -> dict[str, Any]:
    if machine.energy is None:
        return {"energy_j": None, "energy_reason": NO_NVML}
    spent = energy_j(each.run, machine.energy, clock=machine.clock, device=machine.device)
    return {"energy_j": spent, "energy_reason": None}


def ceiling_values(roof: Ceilings, precision: str) -> dict[str, Any]:
    """The measured ceilings as JSON values."""
    return {
        "matmul_precision": precision,
        "copy_bandwidth_gb_per_s": roof.bytes_per_s / 1e9,
        "matmul_rate_gflop_per_s": roof.flops_per_s / 1e9,
        "ridge_flop_per_byte": roof.ridge,
    }
