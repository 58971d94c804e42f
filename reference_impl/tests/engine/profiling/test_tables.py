import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from reference_reasoner.engine.profiling import pictures as picture
from reference_reasoner.engine.profiling import profile_values as profile
from reference_reasoner.engine.profiling.counted.quantities import exact_quantities
from reference_reasoner.engine.profiling.measured.machine import Limits, Machine
from reference_reasoner.engine.profiling.measured.roofline import Sizes
from reference_reasoner.engine.profiling.pictures import (
    NO_MATPLOTLIB,
    draw_profile,
    draw_repetitions,
)
from reference_reasoner.engine.profiling.profile_values import (
    Subject,
    exact_values,
    header,
    measured_values,
)
from reference_reasoner.engine.profiling.tables import UNITS, number, table, title, unit_of

from ..toy.task import ToyTask, toy
from .fakes import GPU, fake_cpu, fake_gpu

FEW = Limits(warm_up=1, samples=3)
SIZES = Sizes(copy_bytes=2**20, matrix_rows=128)
PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module", autouse=True)
def _small_ceilings() -> Iterator[None]:
    with patch.object(profile.measured_ceilings, "__defaults__", (FEW, SIZES)):
        yield


def profile_of(machine: Machine) -> dict[str, Any]:
    subject = Subject(task=ToyTask(toy()), preset="toy")
    exact = exact_quantities(subject.task)
    return {
        **header(subject, machine),
        "exact": exact_values(exact),
        "measured": measured_values(subject.task, machine, None, exact),
    }


@pytest.fixture(scope="module", params=["cpu", "gpu"])
def result(request: pytest.FixtureRequest) -> dict[str, Any]:
    return profile_of(fake_cpu() if request.param == "cpu" else fake_gpu())


def figures(values: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """(key, number) of every number inside."""
    if isinstance(values, dict):
        for name, value in values.items():
            # the modules' names are keys too: what is counted there stands above them
            yield from figures(value, key if key == "parameters_by_module" else name)
    elif isinstance(values, list):
        for value in values:
            yield from figures(value, key)
    elif isinstance(values, int | float):
        yield key, values


def test_every_figures_key_carries_its_unit(result: dict[str, Any]) -> None:
    found = list(figures({"exact": result["exact"], "measured": result["measured"]}))
    assert len(found) > 30
    counts = {"samples", "calls", "parameters_by_module"}
    for key, _ in found:
        assert key in counts or unit_of(key)[1] in UNITS.values(), key


def test_a_key_without_a_unit_is_noticed() -> None:
    with pytest.raises(KeyError):
        unit_of("latency_batch1_p50")
    assert unit_of("latency_batch1_p50_ms") == ("latency batch1 p50", "ms")
    assert unit_of("parameters") == ("parameters", "parameters")


def test_the_title_states_device_threads_precision_and_compilation(result: dict[str, Any]) -> None:
    line = title(result)
    gpu = f" ({GPU})" if result["gpu"] else ""
    assert line.startswith(f"toy, preset toy: cpu{gpu}, 1 CPU thread, torch ")
    assert line.endswith("fp32, not compiled")
    assert ", 8 CPU threads, " in title({**result, "threads": 8})
    assert "compiled" in title({**result, "compile": True}).rsplit(", ", 1)
    assert "run 0001: " in title({**result, "run": "0001"})


def test_each_line_of_the_table_names_its_unit(result: dict[str, Any]) -> None:
    lines = table(result).splitlines()
    assert lines[0] == title(result)
    units = tuple(UNITS.values())
    for line in lines[1:]:
        words = line.split()
        if line.startswith("  ") and not line.endswith(":") and "not measured" not in line:
            assert line.endswith((*units, "calls")), line
            assert any(word[0].isdigit() for word in words), line
    said = "\n".join(lines)
    assert ("peaks are measured on CUDA devices only" in said) == (result["gpu"] is None)


def test_p99_is_said_to_be_missing(result: dict[str, Any]) -> None:
    assert "p99: none" not in table(result)
    few = {**result, "measured": {**result["measured"], "latency_batch1_p99_ms": None}}
    assert "latency batch1 p99: none under 100 samples" in table(few)


def test_the_table_of_what_was_counted_only(result: dict[str, Any]) -> None:
    said = table({**result, "measured": None})
    assert "Exact (counted on " in said
    assert "Measured" not in said


@pytest.mark.parametrize(
    ("value", "text"),
    [(57354, "57,354"), (12345.6, "12,346"), (0.87356, "0.8736"), (3, "3"), (42.0, "42")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_the_picture_is_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "new" / "profile.png"
    assert draw_profile(result, path) == str(path)
    assert path.read_bytes().startswith(PNG)


def test_the_picture_is_drawn_without_training_figures(
    result: dict[str, Any], tmp_path: Path
) -> None:
    rows = result["measured"]["throughput_by_batch"]
    path = tmp_path / "profile.png"
    draw_profile({**result, "measured": {"throughput_by_batch": rows}}, path)
    assert path.read_bytes().startswith(PNG)


def test_without_matplotlib_no_picture_is_made(
    result: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = builtins.__import__

    def missing(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return really(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    path = tmp_path / "profile.png"
    assert draw_profile(result, path) == NO_MATPLOTLIB
    assert draw_repetitions([], path, "x") == picture.NO_MATPLOTLIB
    assert list(tmp_path.iterdir()) == []


def test_the_roofline_has_its_own_section(result: dict[str, Any]) -> None:
    roofline = result["measured"]["roofline"]
    section = table(result).partition("Roofline (ceilings measured here, fp32)")[2]
    assert f"{number(roofline['copy_bandwidth_gb_per_s'])} GB/s" in section
    assert f"{number(roofline['matmul_rate_gflop_per_s'])} GFLOP/s" in section
    assert roofline["ridge_flop_per_byte"] == pytest.approx(
        roofline["matmul_rate_gflop_per_s"] / roofline["copy_bandwidth_gb_per_s"]
    )
    for name in ("forward", "training_step"):
        values = roofline[name]
        assert f"  {name.replace('_', ' ')}:" in section
        assert values["batch_examples"] == 12
        assert values["launches_per_pass"] > 0
        assert values["operators"][0]["operator"] in section
        assert values["mfu_percent"] > 0
    assert section.count("not measured: no NVML") == 2


def test_the_roofline_is_of_what_there_was(result: dict[str, Any]) -> None:
    roofline = {**result["measured"]["roofline"], "forward": None}
    forward = {**roofline["training_step"], "operators": [], "operators_reason": "why not"}
    bare = {**roofline, "training_step": {**forward, "energy_reason": None, "energy_j": 12.5}}
    section = table({**result, "measured": {**result["measured"], "roofline": bare}})
    section = section.partition("Roofline")[2]
    assert "  forward:" not in section
    assert "not measured: why not" in section
    assert "% of time" not in section
    assert "12.5 J" in section


def test_a_model_that_fits_no_batch_has_no_forward_roofline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = {"throughput_by_batch": []}
    monkeypatch.setattr(profile, "throughput", lambda *_: nothing)
    task = ToyTask(toy())
    values = measured_values(task, fake_cpu(), None, exact_quantities(task))
    assert values["roofline"]["forward"] is None
    assert values["roofline"]["training_step"] is not None
