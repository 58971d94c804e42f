"""Samples of how long something takes, by a clock that is passed in, inside a box of time."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

BOX_S = 60.0
"""No timing goes on for longer than this, but for the repetition that it is in."""
_FEWEST_FOR_P99 = 100


class Clock(Protocol):
    """What timings ask of the machine; tests bring one of their own."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def synchronise(self, device: torch.device) -> None:
        """Wait until `device` has done all that it was given."""
        ...


class WallClock:
    """The real one."""

    def now(self) -> float:
        """Seconds of the monotonic clock with the finest steps."""
        return time.perf_counter()

    def synchronise(self, device: torch.device) -> None:
        """Wait for a GPU's queue; a CPU is done when a call returns."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a timing is over: after `samples`, or when its box is used up."""

    warm_up: int = 10
    """Repetitions that come first and do not count: they compile, allocate and fill caches."""
    samples: int = 500
    box_s: float = BOX_S


def sample_ms(
    action: Callable[[], object], *, clock: Clock, device: torch.device, limits: Limits
) -> list[float]:
    """How long each repetition of `action` takes in ms, its work on `device` included.

    The warm-up is inside the box. At least one repetition is measured, however long it takes.
    """
    began = clock.now()
    for _ in range(limits.warm_up):
        action()
        clock.synchronise(device)
        if clock.now() - began >= limits.box_s:
            break
    samples: list[float] = []
    while len(samples) < limits.samples:
        start = clock.now()
        action()
        clock.synchronise(device)
        stop = clock.now()
        samples.append((stop - start) * 1e3)
        if stop - began >= limits.box_s:
            break
    return samples


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that `percent` % do not exceed."""
    rank = max(1, math.ceil(percent / 100 * len(samples)))
    return sorted(samples)[rank - 1]


def percentiles(samples_ms: Sequence[float], name: str) -> dict[str, float | int | None]:
    """`<name>_p50_ms`, `_p90_ms` and `_p99_ms` by nearest rank, and `<name>_samples`.

    p99 is None under 100 samples, where it would be the largest of them.
    """
    enough = len(samples_ms) >= _FEWEST_FOR_P99
    return {
        f"{name}_p50_ms": percentile(samples_ms, 50),
        f"{name}_p90_ms": percentile(samples_ms, 90),
        f"{name}_p99_ms": percentile(samples_ms, 99) if enough else None,
        f"{name}_samples": len(samples_ms),
    }


class PhaseTimer:
    """Adds up the time between marks, and waits for the device at each of them."""

    def __init__(self, clock: Clock, device: torch.device) -> None:
        self._clock = clock
        self._device = device
        self._phase: str | None = None
        self._since_s = 0.0
        self.spent_s: dict[str, float] = {}

    def mark(self, phase: str | None) -> None:
        """The phase before ends and `phase` begins; with None, nothing begins."""
        self._clock.synchronise(self._device)
        now = self._clock.now()
        if self._phase is not None:
            spent = self.spent_s.get(self._phase, 0.0)
            self.spent_s[self._phase] = spent + now - self._since_s
        self._phase, self._since_s = phase, now

    def take(self) -> dict[str, float]:
        """{phase: seconds} since the last take."""
        taken, self.spent_s = self.spent_s, {}
        return taken
