"""TensorBoard shows what metrics.jsonl says, once."""

from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.config.run_config import TrackingConfig
from reference_reasoner.engine.tracking.sinks import (
    JsonlSink,
    Sink,
    check_trackers,
    open_sinks,
)

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
ON = TrackingConfig(tensorboard=True)


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator: Any = accumulators.EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
    }


def _close(sinks: list[Sink]) -> None:
    for sink in sinks:
        sink.sync()
        sink.close()


def test_numbers_become_curves_and_the_rest_does_not(tmp_path: Path) -> None:
    check_trackers(ON)
    sinks = open_sinks(tmp_path, ON)
    for sink in sinks:
        sink.write({"kind": "train", "step": 1, "loss": 0.5, "count": 2, "gone": None})
        sink.write({"kind": "train", "step": 2, "loss": 0.25})
        sink.write({"kind": "evaluation", "step": 2, "raw/accuracy": 1.0})
    _close(sinks)
    assert _curves(tmp_path / "tensorboard") == {
        "train/loss": [(1, 0.5), (2, 0.25)],
        "train/count": [(1, 2.0)],
        "evaluation/raw/accuracy": [(2, 1.0)],
    }


def test_a_run_that_goes_on_is_one_curve(tmp_path: Path) -> None:
    first = open_sinks(tmp_path, ON)
    for step in (1, 2):
        for sink in first:
            sink.write({"kind": "train", "step": step, "loss": float(step)})
    _close(first)
    (tmp_path / "metrics.jsonl").unlink()  # the second step was lost with its checkpoint
    kept = JsonlSink(tmp_path / "metrics.jsonl")
    kept.write({"kind": "train", "step": 1, "loss": 1.0})
    kept.close()
    second = open_sinks(tmp_path, ON)
    for sink in second:
        sink.write({"kind": "train", "step": 2, "loss": 4.0})
    _close(second)
    assert _curves(tmp_path / "tensorboard") == {"train/loss": [(1, 1.0), (2, 4.0)]}
