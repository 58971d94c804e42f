"""What every test needs: one thread, no display, a project folder of its own."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that tests start
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder that is the working directory."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path
