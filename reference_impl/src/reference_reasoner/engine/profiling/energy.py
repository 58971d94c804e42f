"""Energy of a call, where NVML's counter answers; tests replace the meter."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .timing import Clock

NO_NVML = "no NVML"
_BOX_S = 2.0
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
    box_s: float = _BOX_S,
) -> float:
    """J of one `action`, its share of what the device used while it was repeated for `box_s`."""
    clock.synchronise(device)
    began, before, calls = clock.now(), meter.joules(), 0
    while not calls or clock.now() - began < box_s:
        action()
        clock.synchronise(device)
        calls += 1
    return (meter.joules() - before) / calls
