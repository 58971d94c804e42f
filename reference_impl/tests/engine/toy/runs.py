"""Runs of the toy task, in this process or in one of its own, and what came of them.

`python -m tests.engine.toy.runs RUN_DIR '{"overrides": {...}, "resume": true}'` trains one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.evaluation.predictions import make_evaluator
from reference_reasoner.engine.training.checkpoint import load_weights, weights_sha256
from reference_reasoner.engine.training.resume import TrainRequest
from reference_reasoner.engine.training.session import train
from reference_reasoner.engine.training.task import Carry, LossOutput, StepKeys

from .task import ToyTask, toy

ROOT = Path(__file__).resolve().parents[3]

VARIANTS: dict[str, dict[str, Any]] = {
    "carry": {},
    "no carry": {"use_carry": False},
    "ema": {"training.ema_decay": 0.9, "training.select_on": "ema"},
    "early stopping": {
        "training.steps": 60,
        "training.early_stopping_evaluations": 3,
        "evaluation.every_steps": 2,
    },
    "fp16 scaler": {"training.precision": "fp16"},
    "2 workers": {"runtime.loader_workers": 2},
    "accumulation": {"training.accumulation_steps": 3},
}


class CrashError(Exception):
    """What a CrashingTask dies of."""


class CrashingTask(ToyTask):
    """Dies in the step `crash_at`, in the second half of the batch if that is accumulated."""

    crash_at = 0

    def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
        if keys.step == self.crash_at:
            raise CrashError(f"step {keys.step}")
        return super().loss(model, batch, carry, keys)


def crashing_at(step: int) -> type[ToyTask]:
    return type("CrashingTask", (CrashingTask,), {"crash_at": step})


def run_toy(
    run_dir: Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    task_type: type[ToyTask] = ToyTask,
    **request: Any,
) -> int:
    """Train the toy preset with `overrides` ({dotted field: value}) and return the exit code."""
    return train(
        TrainRequest(
            task_name="toy",
            task_type=task_type,
            preset="toy",
            config=overlay(toy(), overrides or {}, "test"),
            run_dir=run_dir,
            **request,
        ),
        make_evaluator,
    )


def start_toy(
    run_dir: Path, overrides: Mapping[str, Any], resume: bool, **variables: str
) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, with more environment variables."""
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-m", __name__, str(run_dir), json.dumps([dict(overrides), resume])],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def facts(run_dir: Path) -> dict[str, Any]:
    """The run.json."""
    data: dict[str, Any] = json.loads((run_dir / "run.json").read_text())
    return data


def records(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("wall_")} for line in lines
    ]


def outcome(run_dir: Path) -> dict[str, Any]:
    """Everything in which a resumed run must equal one that was never stopped."""
    names = ("weights_sha256", "state_sha256", "best", "stop_step", "stop_reason", "final_metrics")
    said = facts(run_dir)
    best, best_step = load_weights(run_dir, "best")
    return {
        **{name: said[name] for name in names},
        "status": said["status"],
        "best weights": weights_sha256(best),
        "best step": best_step,
        "records": records(run_dir),
    }


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    given, resumed = json.loads(sys.argv[2])
    sys.exit(run_toy(Path(sys.argv[1]), given, resume=resumed))
