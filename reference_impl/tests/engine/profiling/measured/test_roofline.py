"""The fractions, by ceilings and times that are known."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from reference_reasoner.engine.profiling.counted.passes import Call
from reference_reasoner.engine.profiling.measured import roofline
from reference_reasoner.engine.profiling.measured.machine import NO_NVML, Limits, Machine
from reference_reasoner.engine.profiling.measured.roofline import (
    COMPILED,
    Ceilings,
    Pass,
    operator_rows,
    pass_values,
)

from ..fakes import fake_cpu, fake_gpu

ROOF = Ceilings(bytes_per_s=1e9, flops_per_s=4e9)
LIMITS = Limits(warm_up=0, samples=1)
A = torch.ones(100, 100)


def call(operator: str, mflop: float, mb: float) -> Call:
    return Call(operator=operator, flops=int(mflop * 1e6), moved_bytes=int(mb * 1e6))


def test_a_fraction_is_the_bound_by_the_time() -> None:
    calls = [
        call("mm", 40, 2),  # 10 ms of computing
        call("mm", 4, 3),  # 3 ms of memory
        call("add", 1, 5),  # 5 ms of memory
        call("view", 0, 0),
        call("never", 1, 1),
    ]
    times_ms = {"mm": 20.0, "add": 50.0, "view": 30.0, "never": 0.0}
    add, view, mm = operator_rows(calls, times_ms, ROOF)
    assert mm == {
        "operator": "mm",
        "calls": 2,
        "time_ms": 20.0,
        "time_share_percent": 20.0,
        "work_gflop": 0.044,
        "moved_mb": 5.0,
        "intensity_flop_per_byte": 44 / 5,
        "bound": "compute",
        "bound_ms": pytest.approx(13.0),
        "bound_reached_percent": pytest.approx(65.0),
    }
    assert (add["bound"], add["bound_reached_percent"]) == ("memory", pytest.approx(10.0))
    assert (view["bound"], view["bound_reached_percent"]) == ("none", 0.0)
    assert view["intensity_flop_per_byte"] is None


def test_ten_operators_are_enough() -> None:
    calls = [call(f"op{n}", 0, 1) for n in range(30)]
    rows = operator_rows(calls, {f"op{n}": n + 1.0 for n in range(30)}, ROOF)
    assert [row["operator"] for row in rows] == [f"op{n}" for n in range(29, 19, -1)]


def product(**more: Any) -> Pass:
    values = {"examples": 8, "model_flops": 2e6, "median_ms": 10.0, "compiled": False, **more}
    return Pass(**{"run": lambda: (A @ A).t() + 1, **values})


def test_a_pass_against_the_roof() -> None:
    found = pass_values(product(), fake_cpu(), ROOF, LIMITS)
    product_bytes, sum_bytes = 4 * 3 * 100**2, 4 * 2 * 100**2
    assert found["batch_examples"] == 8
    assert found["launches_per_pass"] == 2  # a view starts nothing
    assert found["model_gflop"] == 0.002
    assert found["moved_mb"] == pytest.approx((product_bytes + sum_bytes) / 1e6)
    assert found["mfu_percent"] == pytest.approx(100 * 2e6 / 0.01 / 4e9)
    assert found["mbu_percent"] == pytest.approx(100 * 200_000 / 0.01 / 1e9)
    bound_ms = 1e3 * (2e6 / 4e9 + sum_bytes / 1e9)
    assert found["bound_ms"] == pytest.approx(bound_ms)
    assert found["bound_reached_percent"] == pytest.approx(100 * bound_ms / 10)
    assert (found["energy_j"], found["energy_reason"]) == (None, NO_NVML)
    assert found["operators_reason"] is None
    rows = {row["operator"]: row for row in found["operators"]}
    assert rows["aten::mm"]["work_gflop"] == 0.002
    assert rows["aten::mm"]["bound"] == "compute"
    assert rows["aten::add"]["bound"] == "memory"


def test_a_compiled_pass_has_no_operators() -> None:
    found = pass_values(product(compiled=True), fake_cpu(), ROOF, LIMITS)
    assert found["operators_reason"] == COMPILED
    assert found["operators"] == []
    assert found["mfu_percent"] > 0
    for name in ("launches_per_pass", "moved_mb", "mbu_percent", "bound_reached_percent"):
        assert found[name] is None


def test_an_operator_that_cannot_be_counted_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: object) -> None:
        raise NotImplementedError("no rule for flex_attention")

    monkeypatch.setattr(roofline, "counted_calls", refuse)
    found = pass_values(product(), fake_cpu(), ROOF, LIMITS)
    assert "no rule for flex_attention" in found["operators_reason"]


def test_where_a_meter_answers_there_is_energy() -> None:
    machine = fake_gpu(tick_s=0.1)

    class Meter:
        def joules(self) -> float:
            return 7.0 * machine.clock.now()

    found = pass_values(product(), replace(machine, energy=Meter()), ROOF, LIMITS)
    assert found["energy_j"] > 0
    assert found["energy_reason"] is None


def test_on_a_gpu_launches_are_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "operator_times", lambda *_: ({"aten::mm": 2.0}, 5))
    machine = Machine(device=torch.device("cuda"), gpu="x")
    assert pass_values(product(), machine, ROOF, LIMITS)["launches_per_pass"] == 5
