import gc
from typing import Any

import pytest
import torch

from reference_reasoner.engine.config.run_config import RuntimeConfig
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.measured.machine import (
    CudaMemory,
    Machine,
    memory_figures,
    reset_memory,
    this_machine,
)

from ..fakes import GPU, FakeMemory, fake_cpu, fake_gpu


def test_the_cpu_has_no_peaks_and_says_why() -> None:
    machine = this_machine(RuntimeConfig(device="cpu"))
    assert (machine.gpu, machine.memory, machine.on_gpu) == (None, None, False)
    assert machine.compiler is None
    reset_memory(machine)
    assert memory_figures(machine, "step") == {
        "step_peak_allocated_mib": None,
        "step_peak_reserved_mib": None,
        "step_peak_reason": "peaks are measured on CUDA devices only, this is cpu",
    }


def test_a_gpu_is_named_and_its_peaks_are_read() -> None:
    machine = fake_gpu()
    assert isinstance(machine.memory, FakeMemory)
    reset_memory(machine)
    assert machine.memory.resets == 1
    found = memory_figures(machine, "step")
    assert (found["step_peak_allocated_mib"], found["step_peak_reserved_mib"]) == (100.0, 128.0)
    assert found["step_peak_reason"] is None
    assert GPU in machine.title()


def test_facts_say_device_threads_and_versions() -> None:
    facts = fake_cpu().facts()
    assert facts["device"] == "cpu"
    assert facts["threads"] == torch.get_num_threads() == 1
    assert facts["torch"] == torch.__version__
    assert facts["gpu"] is facts["cuda"] is None
    assert fake_cpu().title() == "cpu, 1 CPU thread"


def test_the_title_counts_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert fake_gpu().title() == f"cpu ({GPU}), 4 CPU threads"


def test_cuda_is_asked_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: GPU)
    monkeypatch.setattr(gc, "collect", lambda: called.append("collect"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append("empty"))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", called.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 5 * 2**20)
    machine = this_machine(RuntimeConfig(device="cuda"))
    assert isinstance(machine, Machine)
    assert isinstance(machine.memory, CudaMemory)
    assert (machine.gpu, machine.on_gpu, machine.compiler) == (GPU, True, "inductor")
    machine.memory.reset()
    assert called == ["collect", "empty", torch.device("cuda")]
    assert machine.memory.peak_mib() == (3.0, 5.0)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RefusedInputError, match=r"runtime\.device is 'cuda'"):
        this_machine(RuntimeConfig(device="cuda"))
