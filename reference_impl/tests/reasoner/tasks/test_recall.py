"""Recall through the command line: trained, killed, proved again, and out of attention's reach."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.training.trained_run import load_model
from reference_reasoner.project import PRESETS, TASKS
from reference_reasoner.reasoner.data.labels import IGNORED
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.tasks.recall import (
    RecallConfig,
    RecallTask,
    recall,
    recall_smoke,
)

from ...engine.toy.runs import facts
from ..command_line import OWN, CommandLine


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


def test_the_project_lists_it_with_all_its_presets() -> None:
    assert TASKS["recall"].endswith(".tasks.recall:RecallTask")
    own = {preset for preset, name in PRESETS.items() if name == "recall"}
    assert own | {"default", "smoke"} == set(RecallTask.presets)


def test_a_run_is_trained_scored_and_proved_again(cli: CommandLine) -> None:
    quick = ["--training.steps=12", "--evaluation.every-steps=6", "--checkpoint.every-steps=5"]
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/one", *quick)
    assert facts(Path("runs/one"))["preset"] == "recall_smoke"
    assert "token_accuracy" in cli.done("evaluate", "one")
    assert "report.html" in cli.done("report", "one")
    page = Path("runs/one/report/report.html").read_text()
    for title in ("Gate by layer", "Surprise by layer"):
        assert f"<h2>{title}</h2>" in page
    assert "<h2>Halting</h2>" not in page
    assert "same" in cli.done("reproduce", "one")
    replayed = cli.done("replay", "one", "8")
    assert "8" in replayed
    (folder,) = Path("runs/one/replays").iterdir()
    kept = {path.name for path in folder.iterdir()}
    assert any("carry" in name for name in kept)


def test_distances_beyond_training_are_scored(cli: CommandLine) -> None:
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/one", "--training.steps=6")
    table = cli.done("distances", "one", "--gaps", "8,16", "--json", "found.json")
    assert "trained" in table
    lines = json.loads(Path("found.json").read_text())
    assert [line["gap_tokens"] for line in lines] == [8, 16]
    assert [line["length_tokens"] for line in lines] == [14, 22]
    assert {line["queries"] for line in lines} == {128}
    assert lines[0]["chance"] == 0.25
    model, config = load_model(OWN, "runs/one")
    assert isinstance(config, RecallConfig)
    _, accuracy, _ = RecallTask(config).accuracy_at_gap(model, 8)
    assert lines[0]["token_accuracy"] == accuracy
    assert len(cli.done("distances", "one").splitlines()) == 5


def test_distances_held_wrong(cli: CommandLine) -> None:
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/one", "--training.steps=6")
    assert "whole numbers" in cli.refused("distances", "one", "--gaps", "8,x")
    assert "at least 0" in cli.refused("distances", "one", "--gaps=-1")
    assert "no folder" in cli.refused("distances", "one", "--json", "nowhere/found.json")
    path = Path("runs/one/run.json")
    path.write_text(path.read_text().replace('"task": "recall"', '"task": "sudoku"'))
    config = Path("runs/one/config.toml")
    config.write_text("seed = 0\n")
    assert "not of 'recall'" in cli.refused("distances", "one")


def test_recall_is_causal() -> None:
    model = recall_smoke().model
    with pytest.raises(ConfigError, match=r"causal must be True"):
        RecallConfig(model=replace(model, backbone=replace(model.backbone, causal=False, window=0)))


@pytest.mark.parametrize("use_memory", [False, True])
def test_only_memory_reaches_from_a_value_to_its_query(use_memory: bool) -> None:
    config = recall()
    backbone = replace(config.model.backbone, use_memory=use_memory)
    task = RecallTask(replace(config, model=replace(config.model, backbone=backbone)))
    recursion = config.model.recursion
    applications = backbone.layers * recursion.applications * config.model.halting.max_steps
    data = config.data
    # the setting that the claim of chance without memory stands on
    assert data.least_distance > 4 * backbone.window
    assert applications <= data.least_distance / backbone.window
    assert data.pairs >= 16
    assert data.values >= 64
    assert data.validation_examples * data.queries >= 5000
    torch.manual_seed(0)
    model = task.build_model().double()
    assert isinstance(model, RecursiveReasoner)
    batch = task.datasets().validation.example(0, None)
    embedded: list[Tensor] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        embedded.append(out.detach().requires_grad_(True))
        return embedded[-1]

    model.embedding.register_forward_hook(keep)
    step = model(batch["tokens"][None])
    asked = (batch["labels"] != IGNORED).nonzero().flatten()
    (gradient,) = torch.autograd.grad(step.logits[0, asked].square().sum(), embedded[0])
    # 1 to 32 are the pairs; attention from the queries must not reach any of them
    reached = gradient[0, : 2 * data.pairs].abs().sum(-1) > 0
    assert bool(reached.any()) is use_memory
    assert bool(reached.all()) is use_memory


def test_the_example_input_runs() -> None:
    task = RecallTask(recall_smoke())
    step = task.build_model()(*task.example_input())
    assert step.logits.shape == (1, task.config.data.length, task.config.data.vocabulary)
