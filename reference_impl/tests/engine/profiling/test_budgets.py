"""Budgets are read strictly, checked exactly and written carefully."""

from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.profiling.budgets import (
    Verdict,
    accept,
    check_exact,
    check_measured,
    limit_on,
    read_budgets,
)
from reference_reasoner.engine.profiling.counted.quantities import exact_quantities

from ..toy.task import ToyTask, toy

TOY = exact_quantities(ToyTask(toy()))
GPU = "NVIDIA H200"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budgets.toml"


def test_the_truth_is_within_itself(path: Path) -> None:
    accept(path, "toy", TOY)
    verdicts = check_exact("toy", read_budgets(path), TOY)
    assert [verdict.state for verdict in verdicts] == ["ok"] * 8
    assert [verdict.name for verdict in verdicts] == list(TOY.budgeted())


@pytest.mark.parametrize("name", [name for name, value in TOY.budgeted().items() if value])
def test_one_below_the_truth_is_over_and_named(path: Path, name: str) -> None:
    value = TOY.budgeted()[name]
    path.write_text(f"[toy]\n{name} = {value - 1}\n")
    found = {verdict.name: verdict for verdict in check_exact("toy", read_budgets(path), TOY)}
    assert found[name].state == "over"
    assert found[name].text == f"{name} {value} is over the budget {value - 1} by 1"
    assert {verdict.state for verdict in found.values()} == {"over", "skipped"}


def test_above_the_truth_may_be_tightened(path: Path) -> None:
    path.write_text("[toy]\nparameters = 10_000\n")
    found = [verdict for verdict in check_exact("toy", read_budgets(path), TOY) if verdict.budget]
    assert [verdict.state for verdict in found] == ["under"]
    assert "below its budget 10000: `profile --accept` tightens it" in found[0].text


def test_no_table_is_no_budget(path: Path) -> None:
    assert read_budgets(path) == {}
    (verdict,) = check_exact("toy", {}, TOY)
    assert (verdict.state, verdict.text) == ("skipped", "skipped: no budget for toy")


def test_limits_hold_on_the_gpu_that_they_name() -> None:
    budgets = {"toy": {"latency_p50_ms": {GPU: 1.0}, "peak_vram_mib": {GPU: 100, "Other": 5}}}

    def states(gpu: str | None, latency: float, memory: float) -> list[str]:
        figures = {"latency_p50_ms": latency, "peak_vram_mib": memory} if gpu else {}
        return [verdict.text for verdict in check_measured("toy", budgets, gpu, figures)]

    assert states(None, 0, 0) == [
        f"latency_p50_ms: skipped: no {GPU}",
        f"peak_vram_mib: skipped: no {GPU}",
        "peak_vram_mib: skipped: no Other",
    ]
    assert states(GPU, 1.0, 100) == [
        f"latency_p50_ms 1 is within the budget 1 on {GPU}",
        f"peak_vram_mib 100 is within the budget 100 on {GPU}",
        "peak_vram_mib: skipped: no Other",
    ]
    assert states(GPU, 1.1, 101)[:2] == [
        f"latency_p50_ms 1.1 is over the budget 1 on {GPU} by 0.1",
        f"peak_vram_mib 101 is over the budget 100 on {GPU} by 1",
    ]


def test_a_limit_for_any_gpu_holds_where_the_gpu_has_none_of_its_own() -> None:
    own = {"any GPU": 100, GPU: 50}
    budgets = {"toy": {"inference_peak_vram_mib": {"any GPU": 100}, "peak_vram_mib": own}}
    figures = {"inference_peak_vram_mib": 60.0, "peak_vram_mib": 60.0}

    def verdicts(gpu: str | None) -> list[tuple[str, str]]:
        found = check_measured("toy", budgets, gpu, figures if gpu else {})
        return [(verdict.state, verdict.text) for verdict in found]

    assert verdicts("Other") == [
        ("ok", "inference_peak_vram_mib 60 is within the budget 100 on any GPU"),
        ("ok", "peak_vram_mib 60 is within the budget 100 on any GPU"),
        ("skipped", f"peak_vram_mib: skipped: no {GPU}"),
    ]
    assert verdicts(GPU) == [
        ("ok", "inference_peak_vram_mib 60 is within the budget 100 on any GPU"),
        ("skipped", f"peak_vram_mib: skipped: {GPU} has a limit of its own"),
        ("over", f"peak_vram_mib 60 is over the budget 50 on {GPU} by 10"),
    ]
    assert verdicts(None) == [
        ("skipped", "inference_peak_vram_mib: skipped: no GPU"),
        ("skipped", "peak_vram_mib: skipped: no GPU"),
        ("skipped", f"peak_vram_mib: skipped: no {GPU}"),
    ]


@pytest.mark.parametrize(
    ("gpu", "holds"), [(None, None), (GPU, GPU), ("Other", "any GPU"), ("any GPU", "any GPU")]
)
def test_whose_limit_holds(gpu: str | None, holds: str | None) -> None:
    assert limit_on(gpu, {"any GPU": 2.0, GPU: 1.0}) == holds
    assert limit_on(gpu, {}) is None


def test_accepting_leaves_everything_else(path: Path) -> None:
    path.write_text(
        "# ours\n\n[other]\nparameters = 1\n\n[toy] \n# why so large\n"
        "parameters = 5  # see the paper\ntrainable_parameters=6\n\n"
        f'[toy.latency_p50_ms]\n"{GPU}" = 2.5\n'
    )
    accept(path, "toy", TOY)
    lines = path.read_text().splitlines()
    assert lines[:6] == ["# ours", "", "[other]", "parameters = 1", "", "[toy] "]
    assert "# why so large" in lines
    assert f"parameters = {TOY.parameters}  # see the paper" in lines
    assert lines[-3:] == ["", "[toy.latency_p50_ms]", f'"{GPU}" = 2.5']
    budgets = read_budgets(path)
    assert budgets["other"] == {"parameters": 1}
    table = {k: v for k, v in budgets["toy"].items() if k != "latency_p50_ms"}
    assert table == TOY.budgeted()
    once = path.read_text()
    accept(path, "toy", TOY)
    assert path.read_text() == once


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("[toy] # ours\nparameters = 5\n", "[toy] # ours\n"),
        ('[ "toy" ]\n"parameters" = 5', '"parameters" = '),
        ("[toy]\r\nparameters = 5\r\n# end", "\r\n# end"),
        ("[toy]\nparameters=5_0\t# a\u2028b", "\t# a\u2028b"),
        ("# nothing more", "# nothing more\n\n[toy]\n"),
        (f'[toy.latency_p50_ms]\n"{GPU}" = 2\n\n\n', "= 2\n\n[toy]\n"),
    ],
)
def test_accepting_knows_a_table_however_it_is_written(path: Path, text: str, kept: str) -> None:
    path.write_bytes(text.encode())
    accept(path, "toy", TOY)
    written = path.read_bytes().decode()
    assert kept in written
    assert written.count("\r") in (0, written.count("\n"))
    table = read_budgets(path)["toy"]
    assert {k: v for k, v in table.items() if isinstance(v, int)} == TOY.budgeted()


@pytest.mark.parametrize("text", ["toy.parameters = 5\n", "toy = {parameters = 5}\n"])
def test_accepting_writes_nothing_where_it_would_do_harm(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(RefusedInputError, match=r"write them below a line \[toy\], one NAME = N"):
        accept(path, "toy", TOY)
    assert path.read_text() == text


def test_accepting_adds_a_table_in_alphabetical_order(path: Path) -> None:
    accept(path, "toy", TOY)
    accept(path, "wide net", TOY)
    text = path.read_text()
    assert '\n\n["wide net"]\ncheckpoint_bytes = ' in text
    entries = text.partition("\n\n")[0].splitlines()[1:]
    assert entries == sorted(entries)
    assert read_budgets(path)["wide net"] == TOY.budgeted()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters = 5", "parameters = 5 is no table"),
        ("[toy]\nparametres = 5", r"parametres of \[toy\] is 5, but .*; did you mean parameters\?"),
        ("[toy]\nx = 5", r"x of \[toy\] is 5, but there is no such quantity \(known: check"),
        ("[toy]\nparameters = 5.5", r"is 5\.5: give a whole number"),
        ("[toy]\nparameters = true", "is True: give a whole number"),
        ("[toy]\nparameters = -1", "is -1: give a whole number"),
        ("[toy]\nlatency_p50_ms = 5", r"write \[toy\.latency_p50_ms\]"),
        ('[toy.peak_vram_mib]\n"x" = 0', r"write \[toy\.peak_vram_mib\]"),
        ("[toy]\ninference_peak_vram_mib = 5", r'"GPU NAME" = LIMIT, or "any GPU" = LIMIT'),
        ("[toy", "cannot be read"),
    ],
)
def test_what_is_no_budget_is_refused(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(RefusedInputError, match=said):
        read_budgets(path)
    with pytest.raises(RefusedInputError, match=said):
        accept(path, "toy", TOY)
    assert path.read_text() == text


def test_each_workload_of_a_task_may_have_a_limit(path: Path) -> None:
    path.write_text(f'[toy.short_latency_p50_ms]\n"{GPU}" = 2\n', encoding="utf-8")
    budgets = read_budgets(path)

    def verdict(figures: dict[str, float]) -> Verdict:
        (found,) = check_measured("toy", budgets, GPU, figures)
        return found

    assert verdict({"short_latency_p50_ms": 1.0, "latency_p50_ms": 9.0}).state == "ok"
    assert verdict({"short_latency_p50_ms": 3.0}).state == "over"
    missing = verdict({"latency_p50_ms": 9.0})
    assert missing.state == "skipped"
    assert missing.text.endswith("skipped: the task has no workload 'short' beside its first")
