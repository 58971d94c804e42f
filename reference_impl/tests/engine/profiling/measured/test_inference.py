from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.profiling.measured.machine import Limits
from reference_reasoner.engine.profiling.measured.passes import (
    batch_sizes,
    latency,
    out_of_memory,
    throughput,
)

from ...toy.task import ToyTask, toy
from ..fakes import FakeClock, FakeMemory, fake_cpu, fake_gpu


class Watched(nn.Module):
    """Notes how it is called, and takes a tenth of a second an example by the clock given."""

    def __init__(self, clock: Any, most: int | None = None, error: Any = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.clock, self.most, self.error = clock, most, error
        self.seen: list[tuple[int, bool, bool, bool]] = []

    def forward(self, point: Tensor, latent: Tensor) -> Tensor:
        rows = len(point)
        if self.most is not None and rows > self.most:
            raise self.error
        inference, mixed = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
        self.seen.append((rows, self.training, inference, mixed))
        self.clock.advance(0.1 * rows)
        return point + self.weight


def watched_task(model: nn.Module, **overrides: Any) -> ToyTask:
    class WatchedTask(ToyTask):
        def build_model(self) -> nn.Module:
            return model

    return WatchedTask(overlay(toy(), overrides, "test"))


def test_latency_is_that_of_one_example_in_eval_mode() -> None:
    machine = fake_gpu(tick_s=0.0)
    model = Watched(machine.clock)
    found = latency(watched_task(model), machine, Limits(warm_up=2, samples=3))
    assert model.seen == [(1, False, True, False)] * 5
    assert found["latency_batch1_p50_ms"] == pytest.approx(100.0)
    assert found["latency_batch1_p99_ms"] is None
    assert found["latency_batch1_samples"] == 3
    assert found["latency_batch1_warm_up_iterations"] == 2
    assert found["inference_batch1_peak_allocated_mib"] == 100.0
    assert isinstance(machine.memory, FakeMemory)
    assert machine.memory.resets == 1


def test_the_runs_precision_counts() -> None:
    machine = fake_cpu()
    model = Watched(machine.clock)
    task = watched_task(model, **{"training.precision": "bf16"})
    latency(task, machine, Limits(warm_up=0, samples=1))
    assert model.seen == [(1, False, True, True)]


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (12, [1, 2, 4, 8, 12]), (16, [1, 2, 4, 8, 16])]
)
def test_batch_sizes_double_up_to_the_runs(largest: int, sizes: list[int]) -> None:
    assert batch_sizes(largest) == sizes


def test_throughput_is_examples_over_seconds() -> None:
    machine = fake_cpu(tick_s=0.0)
    model = Watched(machine.clock)
    found = throughput(watched_task(model), machine, box_s=1e9)
    rows = found["throughput_by_batch"]
    assert [row["batch_examples"] for row in rows] == [1, 2, 4, 8, 12]
    assert [row["samples"] for row in rows] == [50] * 5
    for row in rows:
        assert row["throughput_examples_per_s"] == pytest.approx(10.0)
    assert found["throughput_best_examples_per_s"] == pytest.approx(10.0)
    assert found["throughput_stopped_by"] == "the run's batch size of 12 examples"


def test_the_box_is_that_of_all_batch_sizes() -> None:
    clock = FakeClock()
    machine = fake_cpu()
    object.__setattr__(machine, "clock", clock)
    found = throughput(watched_task(Watched(clock)), machine, box_s=6.0)
    # batch 1: 3 + 50 calls of 0.1 s; batch 2 gets the 0.7 s that are left; then the box is full
    assert [row["batch_examples"] for row in found["throughput_by_batch"]] == [1, 2]
    assert found["throughput_stopped_by"] == "the box of 6 s"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_running_out_of_memory_ends_the_sweep(error: Exception) -> None:
    machine = fake_cpu()
    model = Watched(machine.clock, most=4, error=error)
    found = throughput(watched_task(model), machine, box_s=1e9)
    assert [row["batch_examples"] for row in found["throughput_by_batch"]] == [1, 2, 4]
    assert found["throughput_stopped_by"] == "out of memory at 8 examples"
    assert out_of_memory(error)


def test_another_error_is_not_taken_for_it() -> None:
    machine = fake_cpu()
    model = Watched(machine.clock, most=1, error=RuntimeError("shapes"))
    with pytest.raises(RuntimeError, match="shapes"):
        throughput(watched_task(model), machine)
    assert not out_of_memory(RuntimeError("shapes"))


def test_each_batch_size_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: said.append("reset"))

    def compile_nothing(model: nn.Module, dynamic: bool) -> nn.Module:
        said.append("compile")
        return model

    monkeypatch.setattr(torch, "compile", compile_nothing)
    machine = fake_cpu()
    task = watched_task(Watched(machine.clock), **{"runtime.compile": True})
    throughput(task, machine, box_s=1e9)
    assert said == ["reset", "compile"] * 5
