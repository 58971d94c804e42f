import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reference_reasoner.engine.profiling.measured.machine import energy_j, nvml_energy

from ..fakes import FakeClock

CUDA = torch.device("cuda")


class FakeMeter:
    """The device draws 50 W by the clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def joules(self) -> float:
        return 50.0 * self.clock.time_s


@pytest.mark.parametrize(("box_s", "calls"), [(0.0, 1), (10.0, 4)])
def test_a_calls_share_of_what_was_used_meanwhile(box_s: float, calls: int) -> None:
    clock = FakeClock()
    taken = []

    def action() -> None:
        clock.advance(3.0)
        taken.append(1)

    used = energy_j(action, FakeMeter(clock), clock=clock, device=CUDA, box_s=box_s)
    assert used == pytest.approx(150.0)
    assert len(taken) == calls
    assert clock.synchronised == calls + 1


def nvml(**more: Any) -> SimpleNamespace:
    found = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda name: name,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 2500 if handle == "GPU-a-b" else 0,
    }
    return SimpleNamespace(**{**found, **more})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(uuid="a-b")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)


@pytest.mark.usefixtures("gpu")
def test_the_gpu_is_found_by_its_name_and_counts_mj(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    meter = nvml_energy(CUDA)
    assert meter is not None
    assert meter.joules() == 2.5


def refuse(*_: object) -> None:
    raise RuntimeError("not supported")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_there_is_no_meter_where_nvml_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**{name: refuse}))
    assert nvml_energy(CUDA) is None


def test_there_is_no_meter_without_pynvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_energy(CUDA) is None
