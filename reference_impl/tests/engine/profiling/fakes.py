"""A clock, a memory meter and a GPU that are none."""

from typing import Any

import torch

from reference_reasoner.engine.profiling.measured.machine import Machine

GPU = "NVIDIA Fake"


class FakeClock:
    """Stands still but for `advance`, and for `tick_s` at each look."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.time_s = 100.0
        self.tick_s = tick_s
        self.synchronised = 0

    def now(self) -> float:
        self.time_s += self.tick_s
        return self.time_s

    def synchronise(self, device: torch.device) -> None:
        self.synchronised += 1

    def advance(self, seconds: float) -> None:
        self.time_s += seconds


class FakeMemory:
    """Says 100 MiB, then one more at each question."""

    def __init__(self) -> None:
        self.resets = 0
        self.asked = 0

    def reset(self) -> None:
        self.resets += 1

    def peak_mib(self) -> tuple[float, float]:
        self.asked += 1
        return 99.0 + self.asked, 128.0


def fake_cpu(tick_s: float = 0.001) -> Machine:
    return Machine(device=torch.device("cpu"), gpu=None, clock=FakeClock(tick_s))


def fake_gpu(tick_s: float = 0.001, compiler: Any = None) -> Machine:
    """Computes on the CPU, and says that it is a GPU."""
    return Machine(
        device=torch.device("cpu"),
        gpu=GPU,
        clock=FakeClock(tick_s),
        memory=FakeMemory(),
        compiler=compiler,
    )
