"""Mazes through the command line: trained, scored, shown, proved again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reference_reasoner.engine.config.fields import ConfigError
from reference_reasoner.engine.evaluation.predictions import predict
from reference_reasoner.engine.training.task import Row
from reference_reasoner.project import PRESETS, TASKS
from reference_reasoner.reasoner.data.maze_rules import is_solution
from reference_reasoner.reasoner.data.mazes import (
    Mazes,
    characters_of,
)
from reference_reasoner.reasoner.tasks.mazes import (
    MazeConfig,
    MazeTask,
    maze,
    maze_smoke,
)

from ...engine.toy.runs import facts
from ..command_line import CommandLine


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """What an untrained model predicts of the validation split."""
    torch.manual_seed(0)
    task = MazeTask(maze_smoke())
    part = task.datasets().validation
    return predict(task, task.build_model(), part, batch_size=32, device=torch.device("cpu"))


def test_the_project_lists_it_with_all_its_presets() -> None:
    assert TASKS["mazes"].endswith(".tasks.mazes:MazeTask")
    own = {preset for preset, name in PRESETS.items() if name == "mazes"}
    assert own | {"default", "smoke"} == set(MazeTask.presets)


def test_a_run_is_trained_scored_shown_and_proved_again(cli: CommandLine) -> None:
    cli.done("train", "--preset", "maze_smoke", "--run-dir", "runs/one")
    assert facts(Path("runs/one"))["preset"] == "maze_smoke"
    assert "accuracy" in cli.done("evaluate", "one")
    assert "report.html" in cli.done("report", "one")
    page = Path("runs/one/report/report.html").read_text()
    shown = ("Halting", "By difficulty", "One maze, step by step")
    for title in (*shown, "Gate by layer", "Surprise by layer"):
        assert f"<h2>{title}</h2>" in page
    pictures = ("halting.png", "difficulty.png", "maze_steps.png", "maze_steps.gif")
    for picture in (*pictures, "gate.png", "surprise.png"):
        assert Path("runs/one/report", picture).stat().st_size > 1000
    assert "same" in cli.done("reproduce", "one")


def test_a_row_tells_the_maze_and_every_answer(rows: list[Row]) -> None:
    config = maze_smoke()
    part = Mazes(config=config.data, split="validation")
    assert len(rows) == len(part) == 16
    for i, row in enumerate(rows):
        drawn = part.maze(i)
        assert row.output["puzzle"] == drawn.text
        assert row.output["solution"] == drawn.solution
        assert row.slices == {"difficulty": str(drawn.moves)}
        answers = row.output["answers"]
        assert len(answers) == config.model.halting.max_steps
        # what is stored as tokens is the answer of the step at which the row stopped
        assert answers[row.output["steps"] - 1] == characters_of(row.output["answer"])
        right = [answer == drawn.solution for answer in answers]
        assert right == row.output["right_by_step"]
        assert json.loads(json.dumps(row.output)) == row.output
    scores = MazeTask(config).scores(rows)
    assert scores["accuracy"] == sum(row.output["right"] for row in rows) / 16
    assert scores.keys() >= {"spearman_difficulty", "threshold", "mean_steps"}


def test_an_untrained_model_solves_nothing(rows: list[Row]) -> None:
    for row in rows:
        assert not any(is_solution(row.output["puzzle"], a) for a in row.output["answers"])


def test_a_maze_is_no_sequence() -> None:
    model = maze_smoke().model
    causal = replace(model, backbone=replace(model.backbone, causal=True))
    with pytest.raises(ConfigError, match=r"causal must be False"):
        MazeConfig(model=causal)


@pytest.mark.parametrize("config", [maze(), maze_smoke()], ids=["maze", "maze_smoke"])
def test_the_example_input_runs(config: MazeConfig) -> None:
    task = MazeTask(config)
    step = task.build_model()(*task.example_input())
    assert step.logits.shape == (1, config.data.cells, 6)
