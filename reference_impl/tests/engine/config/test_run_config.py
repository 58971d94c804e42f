"""The config refuses what cannot work, and knows which fields change the weights."""

from dataclasses import replace
from typing import Any

import pytest

from reference_reasoner.engine.config.fields import ConfigError, flatten, overlay
from reference_reasoner.engine.config.run_config import (
    CheckpointConfig,
    EvaluationConfig,
    RunConfig,
    RuntimeConfig,
    TrackingConfig,
    TrainingConfig,
    differences,
    roles,
)

from ..toy.task import ToyConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [
        (TrainingConfig, "steps", [0, -1]),
        (TrainingConfig, "batch_size", [0]),
        (TrainingConfig, "accumulation_steps", [0, 65]),
        (TrainingConfig, "max_skipped_steps", [0]),
        (TrainingConfig, "learning_rate", [0.0, -0.1, NAN]),
        (TrainingConfig, "warmup_steps", [-1]),
        (TrainingConfig, "weight_decay", [-0.1, NAN]),
        (TrainingConfig, "clip_norm", [-1.0, NAN]),
        (TrainingConfig, "early_stopping_evaluations", [-1]),
        (TrainingConfig, "beta1", [-0.1, 1.0, NAN]),
        (TrainingConfig, "beta2", [-0.1, 1.0]),
        (TrainingConfig, "ema_decay", [-0.1, 1.0]),
        (TrainingConfig, "decay_fraction", [-0.1, 1.1]),
        (TrainingConfig, "final_learning_rate_ratio", [-0.1, 1.1, NAN]),
        (TrainingConfig, "select_on", ["ema"]),
        (RuntimeConfig, "threads", [0, 100_000]),
        (RuntimeConfig, "loader_workers", [-1]),
        (EvaluationConfig, "every_steps", [0]),
        (EvaluationConfig, "batch_size", [0]),
        (CheckpointConfig, "every_steps", [0]),
        (CheckpointConfig, "keep", [1]),
        (TrackingConfig, "log_every_steps", [0]),
        (RunConfig, "seed", [-1]),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(kind: Any, name: str, bad: list[Any]) -> None:
    for value in bad:
        with pytest.raises(ConfigError, match=name) as caught:
            kind(**{name: value})
        assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (TrainingConfig, {"steps": 1, "batch_size": 1, "accumulation_steps": 1}),
        (TrainingConfig, {"warmup_steps": 0, "weight_decay": 0.0, "clip_norm": 0.0}),
        (TrainingConfig, {"beta1": 0.0, "decay_fraction": 0.0, "final_learning_rate_ratio": 1.0}),
        (TrainingConfig, {"select_on": "ema", "ema_decay": 0.5}),
        (TrainingConfig, {"batch_size": 8, "accumulation_steps": 8}),
        (CheckpointConfig, {"keep": 2}),
        (RunConfig, {"seed": 0}),
    ],
)
def test_the_edges_are_allowed(kind: Any, values: dict[str, Any]) -> None:
    made = kind(**values)
    assert all(getattr(made, name) == value for name, value in values.items())


def test_every_field_has_a_role() -> None:
    config = ToyConfig()
    found = roles(config)
    assert list(found) == list(flatten(config))
    assert set(found.values()) == {"trajectory", "condition", "free"}
    by_role = {role: {k for k, v in found.items() if v == role} for role in set(found.values())}
    assert by_role["condition"] == {
        "runtime.device",
        "runtime.threads",
        "runtime.compile",
        "runtime.determinism",
    }
    assert by_role["free"] == {
        "runtime.loader_workers",
        "evaluation.every_steps",
        "evaluation.batch_size",
        "checkpoint.every_steps",
        "checkpoint.keep",
        "tracking.log_every_steps",
        "tracking.tensorboard",
    }
    assert {"seed", "data.noise", "model.width", "use_carry"} <= by_role["trajectory"]


def test_early_stopping_makes_the_evaluations_part_of_the_trajectory() -> None:
    stopping = ToyConfig(training=TrainingConfig(early_stopping_evaluations=3))
    assert roles(stopping)["evaluation.every_steps"] == "trajectory"
    assert roles(stopping)["evaluation.batch_size"] == "free"


def test_differences_are_told_apart_by_role() -> None:
    old = ToyConfig()
    new = overlay(
        old, {"model.width": 16, "runtime.threads": 2, "checkpoint.keep": 5, "seed": 4}, "test"
    )
    assert differences(old, new, "trajectory") == {"seed": (0, 4), "model.width": (8, 16)}
    assert differences(old, new, "condition") == {"runtime.threads": (1, 2)}
    assert differences(old, new, "free") == {"checkpoint.keep": (2, 5)}
    assert differences(old, replace(old), "trajectory") == {}
