"""From a run back to its task, its config and its trained model."""

import json
from pathlib import Path

import pytest
import torch

from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.training.checkpoint import load_weights
from reference_reasoner.engine.training.trained_run import (
    load_model,
    open_run,
)

from ..toy.command_line import TOY
from ..toy.runs import run_toy
from ..toy.task import ToyConfig, ToyNet, ToyTask


@pytest.fixture
def run_dir(project: Path) -> Path:
    path = project / "runs" / "first"
    overrides = {
        "training.steps": 6,
        "training.ema_decay": 0.5,
        "training.learning_rate": 0.1,
        "evaluation.every_steps": 2,
        "model.width": 5,
    }
    assert run_toy(path, overrides) == 0
    return path


def test_a_run_is_opened_with_its_own_config(run_dir: Path) -> None:
    for name in ("first", run_dir, str(run_dir)):
        run = open_run(TOY, name)
        assert run.run_dir == run_dir
        assert run.manifest.data["name"] == "first"
        assert type(run.task) is ToyTask
        assert run.task.config.model.width == 5
        assert run.task.config.training.steps == 6


@pytest.mark.parametrize("which", ["best", "last"])
def test_load_model_gives_the_trained_weights_in_eval_mode(run_dir: Path, which: str) -> None:
    model, config = load_model(TOY, "first", which)
    assert isinstance(model, ToyNet)
    assert isinstance(config, ToyConfig)
    assert not model.training
    expected, _ = load_weights(run_dir, which)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    _, logits, _ = model(torch.zeros(2, 6), torch.zeros(2, config.model.width))
    assert logits.shape == (2, 3)


def test_best_is_the_default_and_not_the_last(run_dir: Path) -> None:
    best_step = load_weights(run_dir, "best")[1]
    assert best_step == json.loads((run_dir / "run.json").read_text())["best"]["step"]
    best, _ = load_model(TOY, run_dir)
    again, _ = load_model(TOY, run_dir, "best")
    assert all(
        torch.equal(a, b) for a, b in zip(best.parameters(), again.parameters(), strict=True)
    )


def test_a_run_that_cannot_be_opened(run_dir: Path) -> None:
    with pytest.raises(RefusedInputError, match=r"there is no run frst; did you mean first\?"):
        load_model(TOY, "frst")
    facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    renamed = json.dumps({**facts, "task": "gone"})
    (run_dir / "run.json").write_text(renamed, encoding="utf-8")
    with pytest.raises(RefusedInputError, match="there is no task 'gone'"):
        open_run(TOY, "first")


def test_damaged_weights_are_not_loaded(run_dir: Path) -> None:
    for weights in (run_dir / "best").glob("*/model.safetensors"):
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
    with pytest.raises(RunFailedError):
        load_model(TOY, "first")
