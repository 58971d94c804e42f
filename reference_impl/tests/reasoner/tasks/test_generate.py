"""`generate` through the command line."""

from pathlib import Path

import pytest

from reference_reasoner.reasoner.commands.generate import _Progress
from reference_reasoner.reasoner.data.sudoku_sets import read_puzzles

from ..command_line import CommandLine


@pytest.fixture
def cli(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


def test_a_file_is_made_once(cli: CommandLine) -> None:
    words = ["generate", "--side", 4, "--count", 20, "--processes", 1, "--out", "4x4-test.txt"]
    assert "20 puzzles, 0 of them were there" in cli.done(*words)
    content = Path("4x4-test.txt").read_bytes()
    assert "20 puzzles, 20 of them were there" in cli.done(*words)
    assert Path("4x4-test.txt").read_bytes() == content
    assert "is not of this request" in cli.refused(*words, "--seed", 1)
    more = ["generate", "--side", 4, "--count", 20, "--processes", 1, "--out", "4x4-train.txt"]
    cli.done(*more, "--stratum", "blanks:7", "--exclude", "4x4-test.txt")
    assert {puzzle.blanks for puzzle in read_puzzles(Path("4x4-train.txt"))} == {7}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--count 5", "--out"),
        ("--out a.txt", "--count"),
        ("--out a.txt --count 0", "--count 0: at least 1"),
        ("--out a.txt --count 5 --seed=-1", "--seed -1: at least 0"),
        ("--out a.txt --count 5 --processes 0", "--processes 0: at least 1"),
        ("--out no/a.txt --count 5", "there is no folder no"),
        ("--out a.txt --count 5 --side 5", "--side"),
        ("--out a.txt --count 5 --side 6 --stratum hard", "has the strata minimal, mixed"),
        ("--out a.txt --count 5 --exclude no.txt", "no.txt cannot be read as puzzles"),
        ("--out a.txt --count 5 --sied 6", "did you mean --side?"),
    ],
)
def test_what_cannot_be_made_is_refused(cli: CommandLine, words: str, message: str) -> None:
    assert message in cli.refused("generate", *words.split())


def test_progress_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal)
        progress = _Progress(10)
        progress.show(4)
        progress.show(8)
        progress.close()
        said = capsys.readouterr().err
        assert ("\r8/10 puzzles, " in said) == terminal
        assert said.endswith("\n") == terminal
