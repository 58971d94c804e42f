"""The compiler is not imported by what compiles nothing, and takes what it may for granted."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reference_reasoner.__main__ import main
from reference_reasoner.reasoner.models.layers.compile_time import known_when_compiling

BATCH = 8
"""Puzzles, so that products are large enough to be oneDNN's."""


def test_solving_does_not_import_the_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "--side", "6", "--count", str(BATCH), "--out", "puzzles.txt"]) == 0
    script = (
        "import importlib, sys\n"
        "main = importlib.import_module(sys.argv[1] + '.__main__').main\n"
        "assert main(['solve', 'puzzles.txt']) == 0\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, main.__module__.partition(".")[0]]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{BATCH} of {BATCH} puzzles solved" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "False"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_compiled_code_asks_once() -> None:
    asked = []

    @known_when_compiling
    def answer() -> int:
        asked.append(1)
        return 2

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return x * answer()

    compiled = torch.compile(doubled, fullgraph=True, backend="eager")
    for _ in range(3):
        assert float(compiled(torch.ones(()))) == 2.0
    assert len(asked) == 1
