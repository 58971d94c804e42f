"""How near a pass comes to what this machine can do, as a whole and operator by operator.

The roofline is that of Williams, Waterman and Patterson 2009; its ceilings are measured
(ceilings.py), FLOPs and bytes are counted (operator_costs.py), times are medians. MFU is that of
PaLM (Chowdhery et al. 2022, appendix B): the FLOPs that the model asks for, recomputation not
among them, against the matrix products of the machine. MBU is its twin for memory: the bytes that
operators read and write against the copies of the machine. On a CPU both may come from caches,
which are faster than memory: a fraction can then be above 100 %.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .ceilings import Ceilings
from .energy import NO_NVML, energy_j
from .graph import in_short
from .machine import Machine
from .operator_costs import Call, counted_calls
from .operators import operator_times
from .timing import Limits

LIMITS = Limits(warm_up=1, samples=5, box_s=10.0)
COMPILED = "a compiled pass is one operator: profile it with runtime.compile False"
_MOST_OPERATORS = 10


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
