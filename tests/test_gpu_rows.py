"""The rows that are asked of a GPU, rehearsed on a CPU; what is told of one that fails."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_rows

from .refusals import refusal
from .rendering import ROOT


def test_rows_are_measured_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["grid25m", "lm25m", "decode", "training_step"]
    gpu_rows.main(["--rehearse", "--out", str(tmp_path), "--only", *rows])
    kept = json.loads((tmp_path / "gpu_rows.json").read_text(encoding="utf-8"))
    assert kept["machine"]["gpu"] is None
    assert kept["rows"].keys() == {"grid25m", "lm25m", "decode"}
    assert kept["rows"]["grid25m"]["code"] == kept["rows"]["lm25m"]["code"] == 0
    assert kept["rows"]["grid25m"]["result"]["preset"] == "smoke"
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


def test_a_machine_without_copier_can_run_them() -> None:
    modules = ["gpu_rows", "gpu_training", *(row.module.split(".")[-1] for row in gpu_rows.ROWS)]
    names = [f"benchmarks.{name}" for name in modules if name != "gpu_bench"]
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
    ],
)
def test_held_wrong(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_rows.torch.cuda, "is_available", lambda: False)
    assert sentence in refusal(gpu_rows.main, words, capsys)
