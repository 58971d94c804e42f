"""Every number here follows from a clock that the test moves by hand."""

import time

import pytest
import torch

from reference_reasoner.engine.profiling.measured.machine import (
    BOX_S,
    Limits,
    PhaseTimer,
    WallClock,
    percentile,
    percentiles,
    sample_ms,
)

from ..fakes import FakeClock

CPU = torch.device("cpu")


class Action:
    """Takes the next of `seconds` each time, the last one for ever."""

    def __init__(self, clock: FakeClock, *seconds: float) -> None:
        self.clock = clock
        self.seconds = list(seconds)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        self.clock.advance(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])


def test_the_warm_up_is_not_among_the_samples() -> None:
    clock = FakeClock()
    action = Action(clock, 5.0, 3.0, 0.002, 0.004, 0.001)
    limits = Limits(warm_up=2, samples=3)
    samples = sample_ms(action, clock=clock, device=CPU, limits=limits)
    assert samples == pytest.approx([2.0, 4.0, 1.0])
    assert action.calls == 5
    assert clock.synchronised == 5


def test_the_device_is_waited_for_inside_the_time() -> None:
    class SlowDevice(FakeClock):
        def synchronise(self, device: torch.device) -> None:
            self.advance(0.25)

    clock = SlowDevice()
    limits = Limits(warm_up=0, samples=2)
    assert sample_ms(lambda: None, clock=clock, device=CPU, limits=limits) == [250.0, 250.0]


def test_the_box_ends_a_timing() -> None:
    clock = FakeClock()
    action = Action(clock, 7.0)
    samples = sample_ms(action, clock=clock, device=CPU, limits=Limits(warm_up=2, samples=500))
    # 14 s of warm-up, then 7 of 7 s each: the last one begins before 60 s and ends after them
    assert len(samples) == 7
    assert clock.now() - 100.0 == pytest.approx(63.0)
    assert BOX_S == 60.0


def test_one_sample_is_taken_however_long_the_warm_up() -> None:
    clock = FakeClock()
    action = Action(clock, 100.0)
    assert len(sample_ms(action, clock=clock, device=CPU, limits=Limits())) == 1
    assert action.calls == 2


def test_percentiles_are_samples() -> None:
    samples = [float(value) for value in range(100, 0, -1)]
    assert percentile(samples, 50) == 50.0
    assert percentile(samples, 90) == 90.0
    assert percentile(samples, 99) == 99.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([3.0], 0) == 3.0


@pytest.mark.parametrize(("count", "p99"), [(99, None), (100, 99.0), (200, 198.0)])
def test_p99_needs_a_hundred_samples(count: int, p99: float | None) -> None:
    found = percentiles([float(value) for value in range(1, count + 1)], "x")
    assert found["x_p99_ms"] == p99
    assert found["x_samples"] == count
    assert list(found) == ["x_p50_ms", "x_p90_ms", "x_p99_ms", "x_samples"]


def test_phases_add_up_over_micro_batches() -> None:
    clock = FakeClock()
    timer = PhaseTimer(clock, CPU)
    for phase, seconds in [("forward", 1.0), ("backward", 2.0), ("forward", 4.0), (None, 8.0)]:
        timer.mark(phase)
        clock.advance(seconds)
    timer.mark("backward")
    clock.advance(16.0)
    timer.mark(None)
    assert timer.take() == {"forward": 5.0, "backward": 18.0}
    assert timer.take() == {}


def test_the_wall_clock_goes_on_and_waits_for_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 12.5)
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    clock = WallClock()
    assert clock.now() == 12.5
    for name in ("cpu", "cuda", "mps"):
        clock.synchronise(torch.device(name))
    assert waited == ["cuda", "mps"]
