"""The command as a person calls it, on the toy task."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from reference_reasoner.engine.data.dataset import Splits
from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.bench import gpu_bench as benchmark
from reference_reasoner.engine.profiling.measured import (
    machine,
)
from reference_reasoner.engine.profiling.measured import (
    passes as inference,
)
from reference_reasoner.engine.profiling.measured import (
    passes as training_step,
)
from reference_reasoner.engine.profiling.measured import (
    roofline as ceilings,
)
from reference_reasoner.engine.profiling.measured.machine import Limits

from ..toy.command_line import CommandLine, main, toy_budgets
from ..toy.task import ToyTask, toy
from .fakes import GPU, fake_gpu


@pytest.fixture
def line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    few = Limits(warm_up=1, samples=3)
    monkeypatch.setattr(inference.latency, "__defaults__", (few,))
    monkeypatch.setattr(training_step.step_figures, "__defaults__", (few,))
    monkeypatch.setattr(benchmark.repetition, "__defaults__", (few, few))
    small = ceilings.Sizes(copy_bytes=2**20, matrix_rows=128)
    monkeypatch.setattr(ceilings.measured_ceilings, "__defaults__", (few, small))
    toy_budgets()
    return CommandLine(project, capsys)


def budgets() -> str:
    return toy_budgets().read_text(encoding="utf-8")


def exit_of(line: CommandLine, *words: str) -> tuple[int, str]:
    """(exit code, what it says on stderr)"""
    line.capsys.readouterr()
    code = main(list(words))
    return code, line.capsys.readouterr().err


def lower(name: str) -> tuple[int, int]:
    """Set one budget one below the truth; (truth, budget)."""
    lines = budgets().splitlines()
    (at,) = [n for n, text in enumerate(lines) if text.startswith(f"{name} = ")]
    truth = int(lines[at].partition(" = ")[2].replace("_", ""))
    lines[at] = f"{name} = {truth - 1}"
    toy_budgets().write_text("\n".join(lines) + "\n", encoding="utf-8")
    return truth, truth - 1


def test_a_preset_is_profiled(line: CommandLine) -> None:
    said = line.done("profile", "--preset", "smoke", "--json", "out.json", "--trace")
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert said.startswith("toy, preset smoke: cpu, 1 CPU thread, torch ")
    assert (result["preset"], result["run"], result["device"]) == ("smoke", None, "cpu")
    assert (result["threads"], result["precision"], result["compile"]) == (1, "fp32", False)
    model = ToyTask(toy()).build_model()
    assert result["exact"]["parameters"] == sum(each.numel() for each in model.parameters())
    assert result["measured"]["latency_batch1_p50_ms"] > 0
    assert result["measured"]["latency_batch1_p99_ms"] is None
    assert result["measured"]["training_reason"] is None
    assert result["measured"]["kernels_per_step"] is None
    roofline = result["measured"]["roofline"]
    assert roofline["copy_bandwidth_gb_per_s"] > 0
    for name in ("forward", "training_step"):
        assert roofline[name]["energy_reason"] == "no NVML"
        assert "aten::addmm" in {row["operator"] for row in roofline[name]["operators"]}
    assert "Roofline (ceilings measured here, fp32)" in said
    trace = line.project / "traces" / "smoke-training-step.json"
    assert result["trace"] == str(trace)
    assert json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    picture = line.project / "profiles" / "smoke.png"
    assert result["picture"] == str(picture)
    assert picture.is_file()
    assert str(trace) in said
    assert str(picture) in said


def test_a_run_is_profiled_with_its_own_config(line: CommandLine) -> None:
    line.done("train", "--preset", "smoke", "--training.steps", "2", "--model.width", "16")
    line.done("profile", "0001", "--json", "out.json", "--trace")
    result = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert (result["run"], result["preset"]) == ("0001", "smoke")
    assert result["exact"]["parameters_by_module"]["embed"] == 6 * 16 + 16
    run_dir = line.project / "runs" / "0001"
    assert (run_dir / "report" / "profile.png").is_file()
    assert (run_dir / "traces" / "0001-training-step.json").is_file()
    assert not (line.project / "traces").exists()


def test_without_data_the_rest_is_measured(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(task: ToyTask) -> Splits:
        raise RefusedInputError("the data is not there")

    monkeypatch.setattr(ToyTask, "datasets", missing)
    said = line.done("profile")
    assert "not measured: the data is not there" in said
    assert "latency batch1 p50" in said
    assert "top operators" not in said
    assert "  forward:" in said
    assert "  training step:" not in said
    assert line.refused("profile", "--trace") == "the data is not there"


def test_accept_then_check(line: CommandLine) -> None:
    assert "no budget" in line.done("profile", "--check")
    said = line.done("profile", "--accept")
    assert "parameters = " in said
    assert "[default]" in budgets()
    shown = line.done("profile", "--check", "--json", "out.json")
    verdicts = json.loads(Path("out.json").read_text(encoding="utf-8"))["verdicts"]
    assert verdicts
    assert all(verdict in shown for verdict in verdicts)
    assert "over the budget" not in shown


def test_check_measures_nothing_without_a_gpus_budget(line: CommandLine) -> None:
    line.done("profile", "--accept")
    with toy_budgets().open("a", encoding="utf-8") as file:
        file.write(f'\n[default.latency_p50_ms]\n"{GPU}" = 1.0\n')
    with patch.object(inference, "sample_ms", side_effect=AssertionError):
        assert f"no {GPU}" in line.done("profile", "--check")


@pytest.mark.parametrize("name", ["parameters", "checkpoint_bytes"])
def test_check_fails_one_above_the_budget(line: CommandLine, name: str) -> None:
    line.done("profile", "--accept")
    truth, budget = lower(name)
    code, said = exit_of(line, "profile", "--check", "--json", "out.json")
    assert code == 1
    assert said.count("\n") == 1
    assert f"over budget: {name} {truth} is over the budget {budget} by 1" in said
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["verdicts"]


def test_any_gpu_is_measured(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.done("profile", "--accept")
    with toy_budgets().open("a", encoding="utf-8") as file:
        file.write('\n[default.inference_peak_vram_mib]\n"any GPU" = 60.0\n')
    assert "inference_peak_vram_mib: skipped: no GPU" in line.done("profile", "--check")
    monkeypatch.setattr(machine, "this_machine", lambda runtime: fake_gpu())
    code, said = exit_of(line, "profile", "--check")
    assert code == 1
    assert "is over the budget 60 on any GPU" in said  # the fake says 100 and more


def test_the_named_gpu_is_measured(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "this_machine", lambda runtime: fake_gpu())
    line.done("profile", "--accept")
    with toy_budgets().open("a", encoding="utf-8") as file:
        file.write(f'\n[default.latency_p50_ms]\n"{GPU}" = 1.5\n')
        file.write(f'\n[default.peak_vram_mib]\n"{GPU}" = 60.0\n')
    code, said = exit_of(line, "profile", "--check")
    assert code == 1
    assert "peak_vram_mib" in said  # the fake says 100 and more
    assert "latency_p50_ms" not in said  # and each look at its clock takes 1 ms


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("0001", "--preset", "smoke"), "has a config of its own"),
        (("--preset", "smok"), "did you mean smoke?"),
        (("nowhere",), "nowhere"),
        (("--check", "--accept"), "not allowed with"),
        (("--trace", "--check"), "--trace needs a measured profile"),
        (("--trace", "--fit-vram", "6GiB"), "--trace needs a measured profile"),
        (("0001", "--accept"), "budgets are those of presets"),
        (("--json", "no/where.json"), "there is no folder no"),
        (("--fit-vram", "much"), "much"),
        (("--chek",), "did you mean --check?"),
    ],
)
def test_refusals(line: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    assert sentence in line.refused("profile", *words)


def test_fit_vram_prints_a_plan_and_measures_nothing(line: CommandLine) -> None:
    with patch.object(inference, "sample_ms", side_effect=AssertionError):
        said = line.done("profile", "--fit-vram", "6GiB", "--json", "out.json")
    result: dict[str, Any] = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert result["measured"] is None
    plan = result["fit_vram"]
    assert (plan["memory_bytes"], plan["batch_examples"]) == (6 * 2**30, 12)
    assert plan["chosen"] == plan["options"][0]
    assert plan["chosen"]["micro_batch_examples"] == 12
    assert "what fits 6.00 GiB" in said


def test_fit_vram_says_when_nothing_fits(line: CommandLine) -> None:
    assert "nothing fits: " in line.done("profile", "--fit-vram", "1MiB", "--json", "out.json")
    assert json.loads(Path("out.json").read_text(encoding="utf-8"))["fit_vram"]["chosen"] is None
