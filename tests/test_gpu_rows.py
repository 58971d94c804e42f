"""The rows that are asked of a GPU, rehearsed on a CPU; what is told of one that fails."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_rows
from results.gpu_row_tables import rows_of_a_gpu

from .refusals import refusal
from .rendering import ROOT


def test_rows_are_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["grid25m", "lm25m", "decode", "training_step"]
    gpu_rows.main(["--rehearse", "--out", str(tmp_path), "--only", *rows])
    kept = json.loads((tmp_path / "gpu_rows.json").read_text(encoding="utf-8"))
    assert kept["machine"]["gpu"] is None
    assert kept["rows"].keys() == {"grid25m", "lm25m", "decode"}
    assert kept["rows"]["grid25m"]["code"] == kept["rows"]["lm25m"]["code"] == 0
    result = kept["rows"]["grid25m"]["result"]
    assert result["preset"] == "smoke"
    # the budgets are those of the project, not of the folder that the command runs in
    assert f"parameters {result['exact']['parameters']} is its budget" in result["verdicts"]
    assert len(kept["rows"]["decode"]["result"]["contexts"]) == 2
    said = capsys.readouterr().out
    assert "training_step: skipped: name a checkout" in said


def test_a_row_that_takes_too_long_or_fails_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = replace(gpu_rows.ROWS[0], seconds=0)
    wrong = replace(gpu_rows.ROWS[2], rehearsal=("--preset", "smoke"))
    monkeypatch.setattr(gpu_rows, "ROWS", (slow, wrong))
    assert gpu_rows.main(["--rehearse", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "grid25m: stopped after 0 s" in said
    assert "decode: left with 2: decode: error: --preset smoke: only a causal model" in said


def test_what_was_there_stays_until_there_is_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decode.json").write_text("{}")
    slow = replace(gpu_rows.ROWS[2], seconds=0)
    monkeypatch.setattr(gpu_rows, "ROWS", (slow,))
    assert gpu_rows.main(["--rehearse", "--out", str(tmp_path)]) == 1
    assert (tmp_path / "decode.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decode.json", "gpu_rows.json"]


def test_the_callers_packages_are_found_after_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("import reference_reasoner, sys\nsys.exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    row = replace(gpu_rows.ROWS[0], module="only_here", seconds=60)
    assert gpu_rows.measured(row, [], tmp_path)["code"] == 7


def test_what_was_measured_reaches_the_page(tmp_path: Path) -> None:
    assert rows_of_a_gpu(tmp_path)[-2].endswith(
        "for `grid25m`, `lm25m`, `inference`, `training_step`, `decode`."
    )
    timing = {"workload": "full_depth", "description": "16 steps", "latency_batch1_p50_ms": 40.0}
    found = {
        "gpu": "NVIDIA H200", "torch": "2.11", "commit": "abc", "repetitions": [{}],
        "summary": [{**timing, "mode": "eager"}], "bounds_ms": {"full_depth": 4.0},
        "compile_failure": "no room",
        "verdicts": ["latency_p50_ms 40 is over the budget 20", "peak_vram_mib: skipped: no GPU"],
    }  # fmt: skip
    (tmp_path / "grid25m.json").write_text(json.dumps(found))
    said = "\n".join(rows_of_a_gpu(tmp_path))
    assert "| `full_depth`: 16 steps | eager | 40 ms | 10 % |" in said
    assert "- latency_p50_ms 40 is over the budget 20\n" in said
    assert "A mode could not be measured: no room." in said
    assert "skipped" not in said
    assert "for `lm25m`, `inference`" in said


def test_a_machine_without_copier_can_run_them() -> None:
    rows = [row.module for row in gpu_rows.ROWS if row.module.startswith("benchmarks.")]
    names = ["benchmarks.gpu_rows", "benchmarks.gpu_training", *rows]
    code = f"import sys; sys.modules['copier'] = None; import {', '.join(names)}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_all_rows_fit_a_call_of_ten_minutes() -> None:
    assert sum(row.seconds for row in gpu_rows.ROWS) <= gpu_rows.MOST_SECONDS


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rehearse"], "the following arguments are required: --out"),
        (["--out", "x"], "torch finds no GPU here"),
        (["--out", "x", "--rehearse", "--official", "no"], "--official no: there is no such"),
        (["--out", "/proc/no", "--rehearse"], "--out /proc/no: no output can be written there"),
        (["--out", "x", "--rehearse", "--only", "training_step"], "name --official PATH"),
    ],
)
def test_held_wrong(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_rows.torch.cuda, "is_available", lambda: False)
    assert sentence in refusal(gpu_rows.main, words, capsys)
