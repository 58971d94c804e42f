"""Sudoku through the command line: trained, scored, reported, resumed, proved again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reference_reasoner.__main__ import main
from reference_reasoner.engine.data.dataset import collate
from reference_reasoner.engine.training.task import Row
from reference_reasoner.reasoner.data.sudoku import EMPTY_TOKEN, SudokuDataConfig
from reference_reasoner.reasoner.data.sudoku_generator import puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import to_line
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    smoke,
)

from ...engine.toy.runs import facts
from ..command_line import CommandLine

QUICK = ["--training.steps=6", "--evaluation.every-steps=6", "--checkpoint.every-steps=3"]


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of a few steps that nobody changes."""
    folder = tmp_path_factory.mktemp("sudoku")
    (folder / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK]) == 0
    return folder


@pytest.fixture
def used(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """The command line in that project."""
    monkeypatch.chdir(trained)
    return CommandLine(trained, capsys)


def results(folder: Path) -> dict[str, dict[str, object]]:
    """{file name: result} of what `evaluate` stored."""
    return {
        path.name: json.loads(path.read_text()) for path in (folder / "predictions").glob("*.json")
    }


def test_a_run_says_what_it_can_do(trained: Path) -> None:
    told = facts(trained / "runs/one")
    assert told["task"] == "sudoku"
    assert told["task_facts"] == {
        "sizes": [4],
        "model_config_sha256": SudokuTask(smoke()).model_config_sha256(),
    }
    assert 0 <= told["best"]["scores"]["threshold"] <= 1


def test_how_deep_a_training_was_when_does_not_change_what_weights_mean() -> None:
    def named(**changes: float) -> str:
        recursion = replace(smoke().model.recursion, **changes)
        model = replace(smoke().model, recursion=recursion)
        return SudokuTask(replace(smoke(), model=model)).model_config_sha256()

    assert named(shallow_share=0.5) == named()
    assert named(latent_steps=3) != named()


def test_a_run_is_scored_and_reported(used: CommandLine) -> None:
    assert "accuracy_at_full_depth" in used.done("evaluate", "one")
    used.done("report", "one")
    assert Path("runs/one/report/halting.png").exists()
    assert Path("runs/one/report/difficulty.png").exists()
    page = Path("runs/one/report/report.html").read_text()
    for title in (
        "By difficulty",
        "Halting",
        "One Sudoku, step by step",
        "Gate by layer",
        "Surprise by layer",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "data:image/gif;base64," in page


def test_a_resumed_run_is_the_same_and_can_be_proved_again(cli: CommandLine) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/whole", *QUICK)
    shorter = [word.replace("steps=6", "steps=3") for word in QUICK[:1]] + QUICK[1:]
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/parts", *shorter)
    cli.done("train", "--run-dir", "runs/parts", "--resume", "--extend-to", "6")
    ends = [facts(Path("runs", name)) for name in ("whole", "parts")]
    # with warm-up only, three steps of six are the three steps of three
    assert ends[0]["weights_sha256"] == ends[1]["weights_sha256"]
    assert ends[0]["state_sha256"] == ends[1]["state_sha256"]
    assert "same" in cli.done("reproduce", "whole")


def test_a_file_is_scored_outside_the_test_lock(used: CommandLine) -> None:
    puzzles = [to_line(puzzle_at(5, 4, "mixed", index).puzzle) for index in range(9)]
    twice = "12" + "." * 14  # more than one solution
    none = "11" + "." * 14
    lines = [*puzzles, "# a comment", twice, none, "12x4", "." * 81]
    Path("mine.txt").write_text("\n".join(lines))
    assert main(["evaluate", "one", "--file", "mine.txt", "--json", "scores.json"]) == 0
    said = used.capsys.readouterr()
    assert "file mine.txt, best weights" in said.out
    for line, why in ((11, "more than one"), (12, "no solution"), (13, "characters"), (14, "rows")):
        assert any(f"line {line} is left out" in t and why in t for t in said.err.splitlines())
    result = json.loads(Path("scores.json").read_text())
    assert (result["examples"], result["left_out"], result["split"]) == (9, 4, "file")
    assert len(result["file_sha256"]) == 64
    assert not Path("test_ledger.jsonl").exists()
    assert result["file_sha256"] in {
        each.get("file_sha256") for each in results(Path("runs/one")).values()
    }
    used.done("report", "one")
    assert "file mine.txt" in Path("runs/one/report/report.html").read_text()


def test_more_steps_than_in_training_are_scored_apart(used: CommandLine) -> None:
    plain, more = (
        (
            used.done("evaluate", "one", *words, "--json", "scores.json"),
            json.loads(Path("scores.json").read_text()),
        )[1]
        for words in ((), ("--steps", 7))
    )
    assert plain["scores"]["most_steps"]["value"] <= 4 < more["steps"] == 7
    assert more["scores"]["most_steps"]["value"] == 7  # it is never sure after six training steps
    assert {
        each["steps"]
        for each in results(Path("runs/one")).values()
        if each["split"] == "validation"
    } == {None, 7}


def test_more_steps_on_the_test_split_are_another_opening(cli: CommandLine) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK)
    test = ("evaluate", "one", "--split", "test")
    cli.done(*test)
    assert "nothing opened" in cli.done(*test)
    assert "was opened on" in cli.refused(*test, "--steps", 6)
    cli.done(*test, "--steps", 6, "--again", "does it help to think longer?")
    assert "nothing opened" in cli.done(*test, "--steps", 6)
    openings = [json.loads(line) for line in Path("test_ledger.jsonl").read_text().splitlines()]
    assert [opening.get("steps") for opening in openings] == [None, 6]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", "0"), "at least one step"),
        (("--file", "nowhere.txt"), "nowhere.txt cannot be read: No such file"),
        (("--file", "."), "cannot be read: Is a directory"),
        (("--file", "empty.txt"), "holds no puzzle to score: write one puzzle a line"),
        (("--file", "noise.txt"), "line 1: a puzzle has"),
        (("--file", "empty.txt", "--split", "test"), "leave --split and --again out"),
    ],
)
def test_scoring_held_wrong(used: CommandLine, words: tuple[str, ...], sentence: str) -> None:
    Path("empty.txt").touch()
    Path("noise.txt").write_bytes(bytes(range(128, 200)) * 50)
    assert sentence in used.refused("evaluate", "one", *words)


def test_rows_say_how_hard_a_puzzle_was() -> None:
    task = SudokuTask(smoke())
    batch = {name: value[None] for name, value in task.datasets().test.example(0, None).items()}
    slices = task.slices(batch, 0)
    assert slices["difficulty"] == str(int((batch["tokens"] == 1).sum()))
    assert slices["guesses"] == "0"
    assert slices["minimal"] in ("yes", "no")


def test_only_large_puzzles_are_scored_by_guesses() -> None:
    output = {
        "steps": 1,
        "right": True,
        "right_at_full_depth": True,
        "first_correct": 1,
        "confidences": [0.9],
        "right_by_step": [True],
    }
    rows = [
        Row(
            example_id=number,
            target=[2],
            output={**output, "answer": [2]},
            confidence=0.9,
            slices={"difficulty": "50", "guesses": guesses, "minimal": "yes"},
        )
        for number, guesses in enumerate(("0", "7"))
    ]
    by_side = {}
    for side in (4, 9):
        config = replace(smoke(), data=SudokuDataConfig(side=side))
        by_side[side] = SudokuTask(config).scores(rows)
    added = by_side[9].keys() - by_side[4].keys()
    assert added == {"accuracy_guesses_0", "accuracy_guesses_5_up"}


def test_a_training_with_a_curriculum_begins_with_easier_puzzles() -> None:
    data = replace(smoke().data, curriculum=0.5)
    task = SudokuTask(replace(smoke(), data=data))
    splits = task.datasets()
    batch = collate([splits.train.example(index, None) for index in range(32)])

    def empty(step: int) -> int:
        carry = None if not step else {**begun, "updates": torch.full((32,), step)}
        return int((task.begin(carry, batch)[0]["tokens"] == EMPTY_TOKEN).sum())

    begun = task.begin(None, batch)[1]
    assert begun is not None
    half = smoke().training.steps // 2
    full = int((batch["tokens"] == EMPTY_TOKEN).sum())
    assert empty(0) < empty(half - 5) < empty(half) == full
    assert empty(0) == empty(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("heads=5",), "got width 32 and heads 5"),
        (("width=33",), "got width 33 and heads 2"),
        (("window=4",), "only causal attention has a window"),
        (("memory.heads=7",), "must be a multiple of model.backbone.memory.heads (7)"),
        (("memory.gradient=stale", "memory.depth=2"), "'stale', which is a form for causal models"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(
    cli: CommandLine, settings: tuple[str, ...], message: str
) -> None:
    fields = [f"model.backbone.{each}" for each in settings]
    assert message in cli.refused("train", "--preset", "smoke", *(f"--{each}" for each in fields))
    assert message in cli.refused("study", "ablate", "smoke", "--vary", "bad", *fields)


def test_a_curriculum_without_a_count_of_steps_is_refused(cli: CommandLine) -> None:
    one_step = ["--data.curriculum", "0.5", "--model.halting.max-steps", "1"]
    told = cli.refused("train", "--preset", "smoke", *one_step)
    assert "data.curriculum needs the count of steps in the carry" in told
    assert not Path("runs").exists()
