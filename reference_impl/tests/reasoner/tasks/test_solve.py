"""`solve`: what it solves, what it must never present as solved, and what it is handed."""

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reference_reasoner.__main__ import main
from reference_reasoner.reasoner.commands import solve_weights
from reference_reasoner.reasoner.data.maze_rules import to_text
from reference_reasoner.reasoner.data.mazes import Mazes
from reference_reasoner.reasoner.data.sudoku_generator import puzzle_at
from reference_reasoner.reasoner.data.sudoku_rules import geometry, to_line
from reference_reasoner.reasoner.models.act_head import Halted
from reference_reasoner.reasoner.models.full_model import RecursiveReasoner
from reference_reasoner.reasoner.tasks import shipped
from reference_reasoner.reasoner.tasks.mazes import MazeTask, maze_smoke
from reference_reasoner.reasoner.tasks.solving import BatchSolver, attempt
from reference_reasoner.reasoner.tasks.sudoku import SudokuTask
from reference_reasoner.reasoner.tasks.sudoku_presets import (
    default,
    smoke,
)

from ..command_line import CommandLine

QUICK = ["--training.steps=4", "--evaluation.every-steps=4", "--checkpoint.every-steps=4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run on 4 x 4 that can do nothing yet, and that nobody changes."""
    folder = tmp_path_factory.mktemp("solve")
    (folder / "pyproject.toml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK]) == 0
    return folder


@pytest.fixture
def here(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Path:
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]) -> None:
    """Let the network write these grids, whatever its weights; other puzzles get a wrong one."""

    def solve(
        self: RecursiveReasoner, tokens: Tensor, *, threshold: float, max_steps: int
    ) -> Halted:
        rows = []
        for row in tokens.tolist():
            puzzle = to_line(bytes(cell - 1 for cell in row))
            rows.append([int(digit) + 1 for digit in answers.get(puzzle, "1" * len(puzzle))])
        output = nn.functional.one_hot(torch.tensor(rows), 11).float()
        count = len(rows)
        return Halted(output, torch.zeros(count), torch.ones(count, dtype=torch.int64))

    monkeypatch.setattr(RecursiveReasoner, "solve", solve)


def test_what_the_network_writes_is_judged_by_the_rules(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, broken, other = (puzzle_at(5, 4, "mixed", index) for index in range(3))
    solved = to_line(right.solution)
    swapped = solved.translate(str.maketrans("12", "21"))  # keeps the rules, not the digits
    wrong = to_line(broken.solution)
    wrong = wrong[:-1] + ("2" if wrong[-1] == "1" else "1")
    puzzles = [to_line(each.puzzle) for each in (right, broken, other)]
    answering(monkeypatch, {puzzles[0]: solved, puzzles[1]: wrong, puzzles[2]: swapped})
    Path("three.txt").write_text("\n".join(puzzles))
    assert main(["solve", "three.txt", "--json", "out.json"]) == 0
    said = capsys.readouterr().out
    assert "1 of 3 puzzles solved" in said
    assert f"line 1: {solved}" in said
    assert "line 2: not solved" in said
    assert "line 3: not solved" in said
    kept = json.loads(Path("out.json").read_text())
    assert [each["solution"] for each in kept] == [solved, None, None]
    assert [each["solved"] for each in kept] == [True, False, False]
    assert set(kept[0]) == {
        "line", "puzzle", "solved", "solution", "steps", "confidence", "seconds",
    }  # fmt: skip


def test_a_terminal_gets_grids(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    puzzle = puzzle_at(5, 4, "mixed", 0)
    answering(monkeypatch, {to_line(puzzle.puzzle): to_line(puzzle.solution)})
    Path("one.txt").write_text(to_line(puzzle.puzzle))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["solve", "one.txt"]) == 0
    row = " ".join(to_line(puzzle.solution)[:4])
    assert f"\n    {row}\n" in capsys.readouterr().out


def test_a_file_of_puzzles_comments_and_noise(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    puzzles = [puzzle_at(5, 4, "mixed", index) for index in range(70)]
    lines = [to_line(each.puzzle).replace(".", "0") for each in puzzles]
    lines[-1] += " " + to_line(puzzles[-1].solution) + " 0 -"  # as `generate` writes it
    lines = ["# comment", "", *lines, "12x4", "9" * 5000]
    Path("puzzles.txt").write_text("\n".join(lines))
    assert main(["solve", "puzzles.txt", "--json", "out.json", "--steps", "2"]) == 0
    said = capsys.readouterr()
    results = json.loads(Path("out.json").read_text())
    assert [result["line"] for result in results] == list(range(3, 73))
    for result, puzzle in zip(results, puzzles, strict=True):
        assert result["puzzle"] == to_line(puzzle.puzzle)
        assert result["steps"] <= 2
        assert 0 <= result["confidence"] <= 1
        if result["solved"]:
            assert geometry(4).is_solution(bytes(map(int, result["solution"])))
    solved = sum(result["solved"] for result in results)
    assert f"{solved} of 70 puzzles solved, 2 lines skipped, 0 of another size" in said.out
    assert said.out.count("not solved") == 70 - solved
    assert "line 73 is no puzzle" in said.err
    assert "line 74 is no puzzle: it is longer than" in said.err


def test_one_solver_takes_all_batches(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[nn.Module] = []

    class Counted(BatchSolver):
        def __init__(self, model: nn.Module) -> None:
            made.append(model)
            super().__init__(model)

    monkeypatch.setattr(solve_weights, "BatchSolver", Counted)
    puzzles = [to_line(puzzle_at(5, 4, "mixed", index).puzzle) for index in range(70)]
    Path("seventy.txt").write_text("\n".join(puzzles))
    assert main(["solve", "seventy.txt", "--steps", "1"]) == 0
    assert len(made) == 1  # what it has recorded stays


def test_lines_of_another_size_are_listed_and_the_others_solved(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four = to_line(puzzle_at(5, 4, "minimal", 0).puzzle)
    Path("mixed.txt").write_text("." * 36 + "\n" + four + "\n" + ("." * 81 + "\n") * 30)
    assert main(["solve", "mixed.txt", "--run", "one"]) == 2
    said = capsys.readouterr()
    assert "cannot do: lines 1, 3, 4" in said.err
    assert "and 11 more" in said.err
    assert "of 1 puzzles solved, 0 lines skipped, 31 of another size" in said.out


def test_a_size_without_a_run_goes_to_the_weights_that_ship(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    six, four = (to_line(puzzle_at(5, side, "mixed", 0).puzzle) for side in (6, 4))
    Path("six.txt").write_text(six)
    Path("both.txt").write_text(f"{six}\n{four}\n")
    assert main(["solve", "six.txt", "--json", "six.json"]) == 0
    said = capsys.readouterr()
    assert "sudoku6 of this package: sudoku 6 x 6" in said.out
    assert "1 of 1 puzzles solved, 0 lines skipped, 0 of another size" in said.out
    assert said.err == ""
    assert json.loads(Path("six.json").read_text())[0]["solved"]
    assert main(["solve", "both.txt"]) == 0
    said = capsys.readouterr()
    assert "runs/one: sudoku 4 x 4" in said.out
    assert "sudoku6 of this package: sudoku 6 x 6" in said.out


def test_weights_that_ship_can_be_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("four.txt").write_text(to_line(puzzle_at(5, 4, "minimal", 0).puzzle))
    assert main(["solve", "four.txt", "--run", "sudoku4"]) == 0
    assert "sudoku4 of this package: sudoku 4 x 4" in capsys.readouterr().out


def test_a_pipe_is_read_as_a_file_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reading, writing = os.pipe()
    os.write(writing, to_line(puzzle_at(5, 4, "minimal", 0).puzzle).encode("ascii"))
    os.close(writing)
    assert main(["solve", f"/dev/fd/{reading}"]) == 0
    os.close(reading)
    assert "of 1 puzzles solved" in capsys.readouterr().out


def test_where_no_weights_can_do_the_size_nothing_is_written(cli: CommandLine) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK)
    Path("nine.txt").write_text("." * 81)
    words = ["solve", "nine.txt", "--json", "out.json"]
    said = cli.refused(*words)
    assert "nine.txt holds puzzles of 9 x 9, and the runs and the weights that ship do 4 x" in said
    assert "train a preset of that size (grid25m, sudoku9," in said
    assert said.endswith("or name a run with --run")
    said = cli.refused(*words, "--run", "one")
    assert "and one does 4 x 4: name another with --run, leave --run out, or train" in said
    said = cli.refused(*words, "--run", "sudoku")
    assert "there is no run sudoku" in said
    assert "what ships: sudoku4, sudoku6" in said


def test_noise_is_no_puzzle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("noise").write_bytes(random.Random(0).randbytes(100_000))
    Path("empty").touch()
    for name in ("noise", "empty", ".", "nowhere"):
        assert main(["solve", name, "--json", "never.json"]) == 2
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        assert said.err.count("is no puzzle") <= 20
    assert not Path("never.json").exists()
    assert not [path for path in here.iterdir() if path.name.startswith(".never")]


def test_held_wrong(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("puzzles.txt").write_text("." * 16 + "\n")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "no weights")
    assert "no weights ship with this package" in cli.refused("solve", "puzzles.txt")
    assert "at least one step" in cli.refused("solve", "puzzles.txt", "--steps", "0")
    assert "no folder" in cli.refused("solve", "puzzles.txt", "--json", "nowhere/out.json")
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/recall", *QUICK)
    assert "has no puzzles" in cli.refused("solve", "puzzles.txt", "--run", "recall")
    # a run on recall is no run on puzzles
    assert "no weights ship with this package" in cli.refused("solve", "puzzles.txt")


def test_weights_of_another_model_configuration_are_refused(cli: CommandLine) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/one", *QUICK)
    Path("puzzles.txt").write_text(to_line(puzzle_at(5, 4, "mixed", 0).puzzle))
    cli.done("solve", "puzzles.txt")
    config = Path("runs/one/config.toml")
    config.write_text(config.read_text().replace("latent_steps = 1", "latent_steps = 2"))
    said = cli.refused("solve", "puzzles.txt")
    assert "run.json says that the weights are of the model configuration" in said
    assert "config.toml gives" in said


def test_the_newest_run_on_puzzles_is_taken(cli: CommandLine) -> None:
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/0001", *QUICK)
    cli.done("train", "--preset", "maze_smoke", "--run-dir", "runs/0002", *QUICK)
    cli.done("train", "--preset", "recall_smoke", "--run-dir", "runs/0003", *QUICK)
    mazes = Mazes(config=maze_smoke().data, split="test")
    texts = [to_text(mazes.maze(index).text) for index in range(3)]
    Path("mazes.txt").write_text("\n\n".join([*texts, "###\n# #", "#" * 5 + "\n\n\n"]))
    assert main(["solve", "mazes.txt"]) == 0
    said = cli.capsys.readouterr()
    assert "runs/0002: mazes 7 x 7" in said.out
    assert "of 3 puzzles solved, 2 lines skipped" in said.out
    assert "line 25 is no puzzle: a maze has at least 3 lines" in said.err
    Path("sudoku.txt").write_text("." * 16)
    assert "runs/0001: sudoku 4 x 4" in cli.done("solve", "sudoku.txt")
    cli.done("train", "--preset", "smoke", "--run-dir", "runs/0004", *QUICK)
    assert "runs/0004: sudoku 4 x 4" in cli.done("solve", "sudoku.txt")
    assert main(["solve", "sudoku.txt", "--run", "0002"]) == 2
    said = cli.capsys.readouterr()
    assert "sudoku.txt holds no puzzle of mazes (1 places" in said.err
    assert "write mazes of N lines" in said.err


def test_a_solved_maze_is_shown(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.done("train", "--preset", "maze_smoke", "--run-dir", "runs/one", *QUICK)
    maze = Mazes(config=maze_smoke().data, split="test").maze(0)
    Path("maze.txt").write_text(to_text(maze.text))
    monkeypatch.setattr(MazeTask, "answer", lambda self, tokens: maze.solution)
    said = cli.done("solve", "maze.txt", "--json", "out.json")
    assert "line 1: solved" in said
    for row in to_text(maze.solution).split("\n"):
        assert f"    {row}" in said
    (kept,) = json.loads(Path("out.json").read_text())
    assert kept["solution"] == maze.solution


def puzzles_of(task: SudokuTask | MazeTask) -> Sequence[str]:
    if isinstance(task, MazeTask):
        mazes = Mazes(config=task.config.data, split="test")
        return [mazes.maze(index).text for index in range(len(mazes))]
    return [to_line(puzzle_at(5, task.size, "minimal", index).puzzle) for index in range(20)]


@pytest.mark.parametrize(
    "task",
    [SudokuTask(default()), SudokuTask(smoke()), MazeTask(maze_smoke())],
    ids=["6x6", "4x4", "mazes"],
)
def test_random_weights_solve_nothing(task: Any) -> None:
    torch.manual_seed(0)
    model = task.build_model().eval()
    puzzles = puzzles_of(task)
    found = attempt(task, model, puzzles, threshold=0.5, max_steps=2)
    assert len(found) == len(puzzles) >= 16
    assert not any(each.solved or each.solution for each in found)
