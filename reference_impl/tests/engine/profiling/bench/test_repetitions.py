"""Repetitions, and what of them has a budget."""

from typing import Any

import pytest

from reference_reasoner.engine.profiling.bench import gpu_bench as benchmark
from reference_reasoner.engine.profiling.bench.gpu_bench import (
    budgeted,
    fastest,
    measurements,
    peaks,
    repetition,
    summary,
)
from reference_reasoner.engine.profiling.measured import passes as bench_steps
from reference_reasoner.engine.profiling.measured.machine import Limits

from ...toy.task import ToyTask, toy
from ..fakes import FakeMemory, fake_cpu, fake_gpu
from ..measured.test_bench_steps import ExampleToy

FEW = Limits(warm_up=0, samples=1)


def timing(workload: str, mode: str, p50_ms: float, mib: float | None = 10.0) -> dict[str, Any]:
    return {
        "workload": workload,
        "description": f"{workload} in words",
        "mode": mode,
        "latency_batch1_p50_ms": p50_ms,
        "latency_batch1_p90_ms": p50_ms + 1,
        "latency_batch1_p99_ms": None if p50_ms < 2 else p50_ms + 2,
        "inference_batch1_peak_allocated_mib": mib,
        "inference_batch1_peak_reserved_mib": mib,
    }


def measured(*timings: dict[str, Any], step_mib: float | None = 100.0) -> dict[str, Any]:
    return {
        "timings": list(timings),
        "training_step_peak_allocated_mib": step_mib,
        "training_step_peak_reserved_mib": step_mib,
    }


def three(eager: float, compiled: float) -> list[dict[str, Any]]:
    return [
        measured(
            timing("all", "eager", eager + each, 10 + each),
            timing("few", "eager", 0.1),
            timing("all", "blocks compiled", compiled + each),
            step_mib=100.0 - each,
        )
        for each in (0, 2, 1)
    ]


def test_the_budget_holds_for_the_first_workload_in_its_faster_mode() -> None:
    for eager, compiled, mode in ((5.0, 9.0, "eager"), (9.0, 5.0, "blocks compiled")):
        found = three(eager, compiled)
        assert fastest(summary(found))["mode"] == mode
        assert fastest(summary(found))["workload"] == "all"
        assert budgeted(found) == {
            "latency_p50_ms": 6.0,
            "few_latency_p50_ms": 0.1,
            "inference_peak_vram_mib": 12.0,
            "peak_vram_mib": 100.0,
        }


def test_stopped_early_has_a_budget_of_its_own() -> None:
    found = [measured(timing("full_depth", "eager", 9.0), timing("halting", "eager", 4.0),
                      timing("halting", "CUDA graph", 3.0))]  # fmt: skip
    assert budgeted(found)["latency_p50_ms"] == 9.0
    assert budgeted(found)["halting_latency_p50_ms"] == 3.0


def test_the_summary_has_medians_and_largest_peaks() -> None:
    found = summary(three(5.0, 9.0))
    assert [(row["workload"], row["mode"]) for row in found] == [
        ("all", "eager"),
        ("all", "blocks compiled"),
        ("few", "eager"),
    ]
    assert found[0] == timing("all", "eager", 6.0, 12.0)
    assert found[2]["latency_batch1_p99_ms"] is None
    assert summary([]) == []


def test_what_cannot_be_measured_has_no_budget() -> None:
    found = [repetition(ToyTask(toy()), fake_cpu(), FEW, FEW)]
    assert list(budgeted(found)) == ["latency_p50_ms"]
    assert set(peaks(found).values()) == {None}


def test_the_peak_is_that_of_steps_with_a_carry_and_an_optimizers_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[bench_steps.RealStep] = []

    class Noted(bench_steps.RealStep):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            steps.append(self)

    machine = fake_gpu()
    seen: list[tuple[int, bool, bool]] = []

    class Memory(FakeMemory):
        def reset(self) -> None:
            super().reset()
            for step in steps:
                state = step.state
                seen.append((state.step, state.carry is not None, bool(state.optimizer.state)))

    object.__setattr__(machine, "memory", Memory())
    monkeypatch.setattr(bench_steps, "RealStep", Noted)
    found = repetition(ExampleToy(toy()), machine, FEW, Limits(warm_up=1, samples=3))
    assert seen == [(2, True, True)]
    assert steps[0].state.step == 2 + 1 + 3
    assert found["training_step_samples"] == 3
    assert found["training_step_peak_allocated_mib"] == 101.0  # asked second, after inference


def test_blocks_that_did_not_compile_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compilers: list[Any] = []

    def noted(task: Any, machine: Any) -> dict[str, Any]:
        compilers.append(machine.compiler)
        return {"compile_failure": "no compiler" if machine.compiler else None}

    monkeypatch.setattr(benchmark, "repetition", noted)
    found = list(measurements(ToyTask(toy()), fake_gpu(compiler="eager"), 3))
    assert compilers == ["eager", None, None]
    assert [each["compile_failure"] for each in found] == ["no compiler", None, None]
