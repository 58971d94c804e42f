"""What figures are measured on: device, clock and memory meter, all of which tests replace."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..config.run_config import RuntimeConfig
from ..training.device import choose_device
from .energy import EnergyMeter, nvml_energy
from .timing import Clock, WallClock

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
