"""Which operators a training step spends its time in, and its trace."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from .machine import Machine
from .timing import Limits, percentile

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
