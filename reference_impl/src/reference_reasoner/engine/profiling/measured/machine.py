"""The machine that figures are measured on: its device, clock, memory and energy meters.

Tests replace all of them. Samples are taken inside a box of time.
"""

import gc
import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ...config.run_config import RuntimeConfig
from ...training.device import choose_device

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


NO_NVML = "no NVML"
_ENERGY_BOX_S = 2.0
"""NVML renews its counter about ten times a second, so calls go on for much longer than that."""


class EnergyMeter(Protocol):
    """Tells how much energy a device has used."""

    def joules(self) -> float:
        """J since some fixed moment."""
        ...


@dataclass(frozen=True, kw_only=True)
class NvmlEnergy:
    """The counter of NVML: the whole GPU's, whoever uses it."""

    nvml: Any
    handle: Any

    def joules(self) -> float:
        """J since the driver was loaded; NVML counts mJ."""
        return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3


def nvml_energy(device: torch.device) -> NvmlEnergy | None:
    """The meter of a CUDA device; None without pynvml, and where the GPU does not count."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        # by its name and not by its number, which CUDA_VISIBLE_DEVICES may have changed
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        meter = NvmlEnergy(nvml=nvml, handle=nvml.nvmlDeviceGetHandleByUUID(name))
        meter.joules()
    except Exception:  # NVML's own errors; older GPUs, and parts of one, have no counter
        return None
    return meter


def energy_j(
    action: Callable[[], object],
    meter: EnergyMeter,
    *,
    clock: Clock,
    device: torch.device,
    box_s: float = _ENERGY_BOX_S,
) -> float:
    """J of one `action`, its share of what the device used while it was repeated for `box_s`."""
    clock.synchronise(device)
    began, before, calls = clock.now(), meter.joules(), 0
    while not calls or clock.now() - began < box_s:
        action()
        clock.synchronise(device)
        calls += 1
    return (meter.joules() - before) / calls


_MIB = 2**20


class PeakMemory(Protocol):
    """Tells how much memory of a device was in use at most."""

    def reset(self) -> None:
        """Forget the peak so far."""
        ...

    def peak_mib(self) -> tuple[float, float]:
        """(allocated by tensors, reserved from the driver) at most since the reset, in MiB."""
        ...


@dataclass(frozen=True, kw_only=True)
class CudaMemory:
    """The peaks of torch's CUDA allocator."""

    device: torch.device

    def reset(self) -> None:
        """Free what nobody holds any more, return what is cached, and forget the peak."""
        gc.collect()  # a model with recomputed blocks refers to itself
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mib(self) -> tuple[float, float]:
        """`max_memory_allocated` and `max_memory_reserved` in MiB."""
        allocated = torch.cuda.max_memory_allocated(self.device)
        return allocated / _MIB, torch.cuda.max_memory_reserved(self.device) / _MIB


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A device and what measures on it."""

    device: torch.device
    gpu: str | None
    """The GPU's name, as budgets name it; None on a CPU."""
    clock: Clock = field(default_factory=WallClock)
    memory: PeakMemory | None = None
    """None where peaks cannot be read."""
    energy: EnergyMeter | None = None
    """None where nothing counts it."""
    compiler: str | Callable[..., Any] | None = None
    """torch.compile's backend for blocks; None where none are compiled."""
    cuda_graphs: bool = False
    """Whether the device launches recorded kernels together."""

    @property
    def on_gpu(self) -> bool:
        """Whether torch's profiler sees kernels of this device."""
        return self.device.type == "cuda"

    def facts(self) -> dict[str, Any]:
        """What every figure is only true of, as JSON values."""
        return {
            "device": self.device.type,
            "gpu": self.gpu,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda if self.on_gpu else None,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }

    def title(self) -> str:
        """The device and the threads in a few words, as every table and picture states them."""
        name = f"{self.device.type} ({self.gpu})" if self.gpu else self.device.type
        threads = torch.get_num_threads()
        return f"{name}, {threads} CPU thread{'' if threads == 1 else 's'}"


def this_machine(runtime: RuntimeConfig) -> Machine:
    """The machine as `runtime` uses it. Raises RefusedInputError for a device it lacks."""
    device = choose_device(runtime)
    if device.type != "cuda":
        return Machine(device=device, gpu=None)
    return Machine(
        device=device,
        gpu=torch.cuda.get_device_name(device),
        memory=CudaMemory(device=device),
        energy=nvml_energy(device),
        compiler="inductor",
        cuda_graphs=True,
    )


def memory_figures(machine: Machine, name: str) -> dict[str, Any]:
    """`<name>_peak_allocated_mib` and `_reserved_mib` since the reset; null with the reason."""
    reason = None
    allocated: float | None = None
    reserved: float | None = None
    if machine.memory is None:
        reason = f"peaks are measured on CUDA devices only, this is {machine.device.type}"
    else:
        allocated, reserved = machine.memory.peak_mib()
    return {
        f"{name}_peak_allocated_mib": allocated,
        f"{name}_peak_reserved_mib": reserved,
        f"{name}_peak_reason": reason,
    }


def reset_memory(machine: Machine) -> None:
    """Forget the peak so far, where there is one."""
    if machine.memory is not None:
        machine.memory.reset()
