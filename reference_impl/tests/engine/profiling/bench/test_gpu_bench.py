"""gpu_bench with a GPU that is none, without one, and with nothing but torch and numpy."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from reference_reasoner.engine.profiling.bench import (
    gpu_bench,
)
from reference_reasoner.engine.profiling.bench import (
    gpu_bench as benchmark,
)
from reference_reasoner.engine.profiling.bench import (
    workloads as bound,
)
from reference_reasoner.engine.profiling.bench.gpu_bench import (
    ask_nvidia_smi,
    clocks_mhz,
    gpu_machine,
)
from reference_reasoner.engine.profiling.measured.machine import Limits
from reference_reasoner.engine.profiling.measured.roofline import Ceilings
from reference_reasoner.engine.training.device import blocks_of
from reference_reasoner.engine.training.task import Workload

from ...toy.command_line import CommandLine, main, toy_budgets
from ...toy.task import ToyTask, toy
from ..bare_machine import bench_on_a_bare_machine
from ..fakes import GPU, fake_gpu

LIMIT = f'\n[default.latency_p50_ms]\n"{GPU}" = %s\n\n[default.peak_vram_mib]\n"{GPU}" = %s\n'


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    few = Limits(warm_up=1, samples=3)
    monkeypatch.setattr(benchmark.repetition, "__defaults__", (few, few))
    roof = Ceilings(bytes_per_s=1e6, flops_per_s=1e6)
    monkeypatch.setattr(bound, "measured_ceilings", lambda *_: roof)
    return project


def bench(*words: str, gpu: bool, compiler: Any = None) -> tuple[int, dict[str, Any]]:
    here = fake_gpu(compiler=compiler) if gpu else None
    with patch.object(gpu_bench, "gpu_machine", lambda: here):
        code = main(["gpu_bench", *words])
    return code, json.loads(Path("gpu_bench.json").read_text(encoding="utf-8"))


def test_without_a_gpu_the_exact_part_is_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, result = bench(gpu=False)
    assert code == 0
    assert result["skipped"] == "no GPU"
    assert (result["gpu"], result["repetitions"], result["budgeted"]) == (None, [], None)
    assert (result["summary"], result["peaks"], result["latency_budget_of"]) == ([], None, None)
    assert result["exact"]["parameters"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("toy, preset default: cpu, ")
    parameters = f"{result['exact']['parameters']:,}"
    words = next(line.split() for line in lines if "parameters" in line)
    assert words == ["parameters", parameters, "parameters"]
    assert lines[-3:] == ["Budgets", "  skipped: no budget for default", "skipped: no GPU"]
    assert not Path("gpu_bench.png").exists()


def test_without_a_gpu_its_limits_are_skipped_by_name(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    any_gpu = '\n[default.inference_peak_vram_mib]\n"any GPU" = 9\n'
    toy_budgets().write_text("[default]\n" + LIMIT % (1.5, 200.0) + any_gpu)
    code, _ = bench(gpu=False)
    said = capsys.readouterr().out
    assert code == 0
    assert f"  latency_p50_ms: skipped: no {GPU}\n" in said
    assert "  inference_peak_vram_mib: skipped: no GPU\n" in said


def test_require_gpu_fails_without_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = bench("--require-gpu", gpu=False)
    assert code == 1
    assert result["skipped"] == "no GPU"
    assert "--require-gpu" in capsys.readouterr().err


def test_each_repetition_is_stored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = bench("--require-gpu", gpu=True)
    assert code == 0
    assert (result["gpu"], result["skipped"], result["threads"]) == (GPU, None, 1)
    assert len(result["repetitions"]) == 5
    for name in ("torch", "cuda", "driver", "commit", "precision", "compile", "python"):
        assert name in result
    for each in result["repetitions"]:
        (timing,) = each["timings"]
        assert timing["latency_batch1_samples"] == 3
        assert timing["description"] == "one forward call of example_input()"
        assert {"training_step_p50_ms", "clocks"} <= set(each)
        assert each["training_step_peak_allocated_mib"] >= 100.0
    peaks = [each["training_step_peak_allocated_mib"] for each in result["repetitions"]]
    assert result["budgeted"]["peak_vram_mib"] == max(peaks)
    inference = [
        each["timings"][0]["inference_batch1_peak_allocated_mib"] for each in result["repetitions"]
    ]
    assert result["budgeted"]["inference_peak_vram_mib"] == max(inference)
    assert result["budgeted"]["latency_p50_ms"] == pytest.approx(1.0)
    assert Path("gpu_bench.png").read_bytes().startswith(b"\x89PNG")
    assert "repetition 5 of 5: p50 of forward eager 1 ms\n" in capsys.readouterr().out


def test_fewer_repetitions_may_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = bench("--repetitions", "1", gpu=True)
    assert (code, len(result["repetitions"])) == (0, 1)
    assert "Latency at batch 1, median of 1 repetition\n" in capsys.readouterr().out


def weights_of_blocks() -> int:
    """The numbers in the toy's blocks."""
    model = ToyTask(toy()).build_model()
    return sum(each.numel() for block in blocks_of(model) for each in block.parameters())


def test_what_is_counted_can_be_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyTask, "workloads", with_workloads(["whole"]))
    toy_budgets().write_text("[default]\nforward_flops_per_example = 1000000000\n")
    code, result = bench("--no-exact", "--repetitions", "1", gpu=True)
    assert (code, result["exact"], result["verdicts"]) == (0, None, [])
    assert result["bounds_ms"]["whole"] == pytest.approx(1e6)  # by the budget's FLOPs
    said = capsys.readouterr().out
    assert "Exact" not in said
    toy_budgets().unlink()
    _, unknown = bench("--no-exact", "--repetitions", "1", gpu=True)
    assert unknown["bounds_ms"] == {}


def with_workloads(names: Sequence[str]) -> Any:
    """The toy's workloads, as a task of its own might have them: a call of its model each."""

    def workloads(task: ToyTask, model: Any) -> list[Workload]:
        device = next(model.parameters()).device
        point, latent = (argument.to(device) for argument in task.example_input())
        return [
            Workload(name=name, description=f"{name} in words", run=lambda: model(point, latent))
            for name in names
        ]

    return workloads


def test_each_workload_is_told_with_its_description(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyTask, "workloads", with_workloads(["whole", "part"]))
    code, result = bench("--repetitions", "2", gpu=True, compiler="eager")
    assert code == 0
    told = [(row["workload"], row["mode"]) for row in result["summary"]]
    modes = ("eager", "blocks compiled")
    assert sorted(told) == sorted((name, mode) for name in ("whole", "part") for mode in modes)
    assert result["latency_budget_of"]["workload"] == "whole"
    said = capsys.readouterr().out
    for name in ("whole", "part"):
        least, *after = said.partition(f"  {name}: {name} in words\n")[2].splitlines()[:3]
        flops, bound_ms = result["exact"]["forward_flops_per_example"], result["bounds_ms"][name]
        assert bound_ms == pytest.approx(max(flops, 4 * weights_of_blocks()) / 1e3)
        assert least.split()[0] == "bound"
        assert least.endswith(f" {100 * bound_ms:.0f} % of it reached")  # in 1 ms
        for mode, line in zip(modes, after, strict=True):
            assert line.split("  ")[2] == mode
            assert line.endswith(" p50 1 ms, p90 1 ms, p99 none")
    assert "a training step of 12 examples in 1 micro-batch: " in said
    assert "    on noise in the shape of example_input(); " in said
    assert "inference at batch 1: " in said
    assert said.count(" MiB, reserved 128 MiB\n") == 2
    order = ("Exact (counted on meta)", "Latency at batch 1", "Peak memory", "Budgets")
    places = [said.index(part) for part in order]
    assert places == sorted(places)


def test_blocks_that_do_not_compile_are_told_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no compiler here\nand a second line")

    monkeypatch.setattr(ToyTask, "workloads", with_workloads(["whole"]))
    code, result = bench("--repetitions", "2", gpu=True, compiler=broken)
    assert code == 0
    assert "no compiler here" in result["compile_failure"]
    assert [row["mode"] for row in result["summary"]] == ["eager"]
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "no compiler here" in line]
    assert line.startswith("  a mode could not be measured: ")
    strict, _ = bench("--repetitions", "1", "--require-gpu", gpu=True, compiler=broken)
    assert strict == 1
    assert "gpu_bench: a mode could not be measured: " in capsys.readouterr().err
    assert "\n" not in result["compile_failure"]
    assert result["repetitions"][1]["compile_failure"] is None  # not tried again


@pytest.mark.parametrize(
    ("latency_ms", "peak_mib", "over"),
    [(1.5, 200.0, []), (0.5, 200.0, ["latency_p50_ms"]), (1.5, 50.0, ["peak_vram_mib"])],
)
def test_the_gpus_budgets_are_held(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    latency_ms: float,
    peak_mib: float,
    over: list[str],
) -> None:
    toy_budgets().write_text("[default]\n" + LIMIT % (latency_ms, peak_mib))
    code, _ = bench(gpu=True)
    assert code == (1 if over else 0)
    said = capsys.readouterr().err
    assert all(name in said for name in over)
    assert ("over budget" in said) == bool(over)


def test_an_exact_budget_fails_without_a_gpu_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_budgets().write_text("[default]\nparameters = 1\n")
    code, result = bench(gpu=False)
    assert code == 1
    assert "over budget: parameters" in capsys.readouterr().err
    assert any("parameters" in text for text in result["verdicts"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--preset", "nothing"), "there is no preset 'nothing'"),
        (("--json", "no/where.json"), "there is no folder no"),
        (("--repetitions", "0"), "--repetitions 0: give a number from 1 on"),
    ],
)
def test_refusals(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert sentence in CommandLine(folder, capsys).refused("gpu_bench", *words)


def test_clocks_are_asked_of_nvidia_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clocks_mhz(lambda query: "1980, 3201, 1980, 3201") == {
        "clocks_sm_mhz": 1980.0,
        "clocks_mem_mhz": 3201.0,
        "clocks_max_sm_mhz": 1980.0,
        "clocks_max_mem_mhz": 3201.0,
    }
    assert clocks_mhz(lambda query: "[N/A], 3201, 1980, 3201") is None
    assert clocks_mhz(lambda query: None) is None

    def answer(command: list[str], **_: Any) -> Any:
        assert command[0] == "nvidia-smi"
        return subprocess.CompletedProcess(command, 0, stdout=" 42 \n")

    monkeypatch.setattr(subprocess, "run", answer)
    assert ask_nvidia_smi("clocks.sm") == "42"

    def no_program(command: list[str], **_: Any) -> Any:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", no_program)
    assert ask_nvidia_smi("clocks.sm") is None


def test_the_gpu_is_found_through_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_machine() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: GPU)
    found = gpu_machine()
    assert found is not None
    assert found.gpu == GPU


def test_torch_and_numpy_are_enough(project: Path) -> None:
    result, said = bench_on_a_bare_machine(project, "toy")
    assert (result["task"], result["preset"], result["commit"]) == ("toy", "toy", None)
    assert result["exact"]["parameters"] > 0
    assert ("skipped: no GPU" in said) == (not torch.cuda.is_available())
    assert not (project / "gpu_bench.png").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_real_gpu_is_measured(folder: Path) -> None:
    code = main(["gpu_bench", "--require-gpu"])
    result = json.loads(Path("gpu_bench.json").read_text(encoding="utf-8"))
    assert code == 0
    assert result["gpu"] == torch.cuda.get_device_name(0)
    assert all(each["training_step_peak_allocated_mib"] > 0 for each in result["repetitions"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_real_gpu_blocks_are_compiled_or_it_says_why_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ToyTask, "workloads", with_workloads(["whole"]))
    assert main(["gpu_bench", "--require-gpu", "--repetitions", "1"]) == 0
    result = json.loads(Path("gpu_bench.json").read_text(encoding="utf-8"))
    modes = [row["mode"] for row in result["summary"]]
    assert modes[0] == "eager"
    assert ("blocks compiled" in modes) == (result["compile_failure"] is None)
