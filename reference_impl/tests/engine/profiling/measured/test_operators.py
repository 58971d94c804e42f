import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity

from reference_reasoner.engine.profiling.measured import roofline as operators
from reference_reasoner.engine.profiling.measured.machine import Limits, Machine
from reference_reasoner.engine.profiling.measured.roofline import (
    operator_figures,
    operator_times,
    outermost_ms,
    profiled,
)

from ..fakes import FakeClock, fake_cpu


def event(key: str, device: str, count: int, cpu_us: float, gpu_us: float, **more: Any) -> Any:
    return SimpleNamespace(
        key=key,
        device_type=SimpleNamespace(name=device),
        count=count,
        self_cpu_time_total=cpu_us,
        self_device_time_total=gpu_us,
        **more,
    )


EVENTS = [
    event("aten::mm", "CPU", 3, 100.0, 900.0),
    event("aten::add", "CPU", 2, 300.0, 100.0),
    event("autograd::engine", "CPU", 9, 50.0, 0.0),
    event("gemm_kernel", "CUDA", 3, 0.0, 900.0, is_user_annotation=False),
    event("add_kernel", "CUDA", 2, 0.0, 100.0),
    event("Memcpy HtoD", "CUDA", 7, 0.0, 5.0),
    event("Memset (Device)", "CUDA", 7, 0.0, 5.0),
    event("Optimizer.step", "CUDA", 1, 0.0, 50.0, is_user_annotation=True),
]


def test_on_a_gpu_kernels_are_counted_and_operators_ranked_by_them() -> None:
    found = operator_figures(EVENTS, on_gpu=True)
    assert found["kernels_per_step"] == 5
    assert found["operator_calls_per_step"] == 5
    first, second = found["top_operators"]
    assert first == {
        "operator": "aten::mm",
        "self_time_ms": 0.9,
        "self_time_share_percent": 90.0,
        "calls": 3,
    }
    assert second["operator"] == "aten::add"


def test_on_a_cpu_there_are_no_kernels() -> None:
    found = operator_figures(EVENTS, on_gpu=False)
    assert found["kernels_per_step"] is None
    names = [row["operator"] for row in found["top_operators"]]
    assert names == ["aten::add", "aten::mm", "autograd::engine"]
    assert found["top_operators"][0]["self_time_ms"] == 0.3


def test_ten_operators_are_enough() -> None:
    many = [event(f"aten::{n}", "CPU", 1, float(n), 0.0) for n in range(1, 31)]
    found = operator_figures(many, on_gpu=False)
    assert [row["operator"] for row in found["top_operators"]] == [
        f"aten::{n}" for n in range(30, 20, -1)
    ]


def test_a_real_call_is_profiled_and_traced(tmp_path: Path) -> None:
    trace = tmp_path / "traces" / "x.json"
    matrix = torch.ones(8, 8)
    found = profiled(lambda: [matrix @ matrix for _ in range(4)], fake_cpu(), trace)
    calls = {row["operator"]: row["calls"] for row in found["top_operators"]}
    assert calls["aten::mm"] == 4
    assert found["operator_calls_per_step"] >= 4
    written = json.loads(trace.read_text(encoding="utf-8"))
    # what Perfetto asks of a Chrome trace: a list of complete events with times
    names = {each["name"] for each in written["traceEvents"] if each["ph"] == "X"}
    assert "aten::mm" in names
    assert list(trace.parent.iterdir()) == [trace]


def test_a_gpus_kernels_are_recorded_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Recorder:
        def __init__(self, activities: list[Any]) -> None:
            asked.extend(activities)

        def __enter__(self) -> "Recorder":
            return self

        def __exit__(self, *_: object) -> None:
            asked.append(f"left after {clock.synchronised} wait")

        def key_averages(self) -> list[Any]:
            return EVENTS

    clock = FakeClock()
    monkeypatch.setattr(operators, "profile", Recorder)
    machine = Machine(device=torch.device("cuda"), gpu="x", clock=clock)
    assert profiled(lambda: None, machine)["kernels_per_step"] == 5
    assert asked == [ProfilerActivity.CPU, ProfilerActivity.CUDA, "left after 1 wait"]


def span(name: str, parent: Any = None, device: str = "CPU", us: float = 0.0) -> Any:
    return SimpleNamespace(
        name=name,
        key=name,
        cpu_parent=parent,
        device_type=SimpleNamespace(name=device),
        cpu_time_total=us,
        device_time_total=10 * us,
    )


def test_an_operators_time_holds_that_of_what_it_calls() -> None:
    linear = span("aten::linear", us=900.0)
    product = span("aten::addmm", linear, us=700.0)
    inner = span("aten::expand", product, us=50.0)
    copy = span("aten::copy_", inner, us=20.0)  # within addmm, whose time has it
    events = [linear, product, inner, copy, span("aten::copy_", us=5.0)]
    events += [span("aten::copy_", device="CUDA", us=1e6), span("aten::other", us=9.0)]
    names = {"aten::addmm", "aten::copy_"}
    assert outermost_ms(events, names, on_gpu=False) == {"aten::addmm": 0.7, "aten::copy_": 0.005}
    assert outermost_ms(events, names, on_gpu=True) == {"aten::addmm": 7.0, "aten::copy_": 0.05}


@pytest.mark.parametrize(
    ("box_s", "median_ms", "calls"), [(1e9, 3.0, 4), (0.0, 9.0, 1), (1.5, 2.0, 2)]
)
def test_times_are_medians_after_a_warm_up(
    monkeypatch: pytest.MonkeyPatch, box_s: float, median_ms: float, calls: int
) -> None:
    """The warm-up takes 9 ms, then 2, 3 and 7; each call moves the clock on by a second."""
    clock = FakeClock()
    times_us = iter([9000.0, 2000.0, 3000.0, 7000.0])

    def record(action: Any, machine: Machine) -> Any:
        action()
        clock.advance(1.0)
        events = [span("aten::mm", us=next(times_us)), span("gemm", device="CUDA")]
        return SimpleNamespace(events=lambda: events)

    monkeypatch.setattr(operators, "_recorded", record)
    taken: list[int] = []
    limits = Limits(warm_up=1, samples=3, box_s=box_s)
    for device, kernels in (("cpu", None), ("cuda", 1)):
        machine = Machine(device=torch.device(device), gpu=None, clock=clock)
        times_us = iter([us * (1.0 if kernels is None else 0.1) for us in (9e3, 2e3, 3e3, 7e3)])
        taken.clear()
        found = operator_times(lambda: taken.append(1), machine, ["aten::mm", "aten::no"], limits)
        assert found == ({"aten::mm": pytest.approx(median_ms), "aten::no": 0.0}, kernels)
        assert len(taken) == calls
