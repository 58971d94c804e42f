"""`ship`, and the weights that come with the package."""

import shutil
from pathlib import Path

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.training.checkpoint import weights_sha256
from reference_reasoner.reasoner.commands.solve_weights import trained_weights
from reference_reasoner.reasoner.data.sudoku_generator import puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import to_line
from reference_reasoner.reasoner.tasks import shipped
from reference_reasoner.reasoner.tasks.shipped import shipped_weights

from ...engine.toy.runs import facts
from ..command_line import OWN, CommandLine

QUICK = ["--training.steps=4", "--evaluation.every-steps=4", "--checkpoint.every-steps=4"]


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


@pytest.fixture
def folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package without weights."""
    monkeypatch.setattr(shipped, "FOLDER", project / "weights")
    return project / "weights"


def test_a_run_ships_and_solves_without_the_run(cli: CommandLine, folder: Path) -> None:
    assert shipped_weights() == []
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK)
    said = cli.done("ship", "one", "--name", "four")
    (entry,) = shipped_weights()
    assert said == f"{entry.path}: 4 x 4\n"
    told = facts(Path("runs/one"))
    assert entry.threshold == told["best"]["scores"]["threshold"]
    assert entry.model_config_sha256 == told["task_facts"]["model_config_sha256"]
    assert weights_sha256(entry.tensors()) == entry.trained["weights_sha256"]
    Path("puzzles.txt").write_text(to_line(puzzle_at(5, 4, "mixed", 0).puzzle))
    with_run = cli.done("solve", "puzzles.txt")
    shutil.rmtree("runs")
    without = cli.done("solve", "puzzles.txt")
    assert "four of this package: sudoku 4 x 4" in without
    assert with_run.split("confidence")[2][:6] == without.split("confidence")[2][:6]


def test_other_weights_take_the_place_of_those_of_their_name(
    cli: CommandLine, folder: Path
) -> None:
    for seed in (0, 1):
        run = f"runs/{seed}"
        cli.done("train", "--preset", "smoke", "--run-dir", run, "--seed", seed, *QUICK)
        cli.done("ship", run)
        cli.done("ship", run)
    (entry,) = shipped_weights()
    assert (entry.name, entry.preset, entry.trained["seed"]) == ("smoke", "smoke", 1)
    assert {path.name for path in folder.iterdir()} == {"manifest.json", entry.path.name}


def test_weights_that_cannot_be_trusted_are_refused(cli: CommandLine, folder: Path) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK)
    cli.done("ship", "one")
    shutil.rmtree("runs")
    (entry,) = shipped_weights()
    content = entry.path.read_bytes()
    manifest = folder / "manifest.json"
    text = manifest.read_text()
    Path("puzzles.txt").write_text("." * 16)

    manifest.write_text(text.replace(entry.model_config_sha256, "0" * 64))
    assert "the preset 'smoke' gives" in cli.refused("solve", "puzzles.txt")
    manifest.write_text(text.replace('"sudoku"', '"recall"'))
    assert "not of puzzles" in cli.refused("solve", "puzzles.txt")
    manifest.write_text(text.replace('"sizes"', '"size"'))
    assert "is no manifest of weights" in cli.refused("solve", "puzzles.txt")
    manifest.write_text(text)
    entry.path.write_bytes(content[:-1] + b"?")
    assert "is damaged" in cli.refused("solve", "puzzles.txt", code=1)
    entry.path.unlink()
    assert "cannot be read" in cli.refused("solve", "puzzles.txt", code=1)


def test_held_wrong(cli: CommandLine, folder: Path) -> None:
    wide = ["--model.backbone.width=48"]
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/wide", *QUICK, *wide)
    assert "has another model than the preset 'smoke'" in cli.refused("ship", "wide")
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/recall", *QUICK)
    assert "has no puzzles" in cli.refused("ship", "recall")
    assert "use small letters" in cli.refused("ship", "wide", "--name", "../up")
    path = Path("runs/wide/run.json")
    path.write_text(path.read_text().replace('"finished"', '"stopped"'))
    assert "is stopped: weights ship once" in cli.refused("ship", "wide")
    assert not folder.exists()


def test_a_run_that_is_not_there() -> None:
    with pytest.raises(RefusedInputError, match="there is no run"):
        trained_weights(OWN, "nowhere")
