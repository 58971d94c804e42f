"""The commands of the daily loop take turns, are told with their spread, and failures are told."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from benchmarks import daily_loop
from results import daily_loop_tables

from .environments import run
from .refusals import refusal

RECORDS = [
    {"kind": "evaluation", "step": 0, "wall_s": 0.5},
    {"kind": "train", "step": 1, "wall_s": 0.75},
    {"kind": "evaluation", "step": 1, "wall_s": 9.0},
]
SUITE_SECONDS = 200.0


def pretended(
    words: Sequence[str],
    folder: Path,
    source: Path | None = None,
    seen: Callable[[], bool] | None = None,
) -> tuple[float, float]:
    """What each command would leave behind, and seconds that are known."""
    last = Path(words[-1])
    if words[0] == "git":
        last.mkdir()
        run(["git", "init", "--quiet"], last)
        run(["git", "commit", "--quiet", "--allow-empty", "--message", "one"], last)
        return 1.0, 1.0
    if "copy" in words:
        puzzles = last / "src" / "my_experiment" / "reasoner" / "data" / "puzzles"
        puzzles.mkdir(parents=True)
        (puzzles / "6x6-test.txt").write_text("12.4 1234 0 -\n", encoding="ascii")
        return (4.0, 4.0) if "--data" in words else (3.0, 3.0)
    assert source == folder / "src"
    if "pytest" in words:
        return SUITE_SECONDS, SUITE_SECONDS
    if seen is not None:
        last.mkdir()
        assert not seen()
        lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
        (last / "metrics.jsonl").write_text(lines, encoding="utf-8")
        assert seen()
        return 12.0, 3.0
    if "solve" in words:
        assert last.read_text(encoding="ascii") == "12.4\n"
    return {"import torch": (1.5, 1.5), "import copier": (0.75, 0.75)}.get(words[-1], (2.0, 2.0))


@pytest.fixture
def without_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily_loop, "timed", pretended)


@pytest.mark.usefixtures("without_commands")
def test_figures_are_told_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "daily_loop.json"
    assert daily_loop.main(["--repetitions", "3", "--suite", "--json", str(out)]) == 0
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["machine"]["torch"]
    assert len(found["commit"]) == 40
    assert found["seconds"].keys() == daily_loop.CLAIMS.keys()
    assert {len(each) for each in found["seconds"].values()} == {3}
    told = {line["claim"]: line["measured"] for line in found["lines"]}
    first = daily_loop.CLAIMS["first step"]
    assert told[first] == "3.00 s (3.00 to 3.00)"
    assert told[daily_loop.CLAIMS["until the loop"]] == "2.25 s (2.25 to 2.25)"
    assert told[daily_loop.CLAIMS["save and step"]] == "0.25 s (0.25 to 0.25)"
    beyond = "1.50 s (1.50 to 1.50), 50 % (50 to 50) of it"
    assert told[f"{first}, beyond `import torch`"] == beyond
    *reported, suite = found["lines"]
    assert {(line["required"], line["holds"]) for line in reported} == {("reported", None)}
    assert (suite["required"], suite["measured"], suite["holds"]) == ("< 240 s", "200 s", True)
    assert len(capsys.readouterr().out.splitlines()) == len(found["lines"])


@pytest.mark.usefixtures("without_commands")
def test_a_suite_that_takes_too_long_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.SUITE_SECONDS", 240.0)
    assert daily_loop.main(["--repetitions", "3", "--suite"]) == 1
    assert daily_loop.main(["--repetitions", "3"]) == 0


def test_calls_take_turns_and_the_first_does_not_count() -> None:
    calls = []

    def call(name: str) -> dict[str, float]:
        calls.append(name)
        return {name: float(len(calls))}

    taken = daily_loop.in_turns([lambda: call("a"), lambda: call("b")], 2)
    assert "".join(calls) == "abbaab"
    assert taken == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


def test_a_command_is_timed_until_something_is_seen_and_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    code = (
        "import os, pathlib, sys, time\n"
        "assert os.environ['PYTHONPATH'] in sys.path and not sys.dont_write_bytecode\n"
        "pathlib.Path('seen').touch(); time.sleep(0.2)"
    )
    words, there = [sys.executable, "-c", code], (tmp_path / "seen").exists
    began = time.perf_counter()
    ended, seen = daily_loop.timed(words, tmp_path, tmp_path, there)
    assert 0 < seen < ended <= time.perf_counter() - began


def test_a_command_that_fails_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daily_loop, "ROOT", tmp_path / "nowhere")
    assert daily_loop.main(["--json", str(tmp_path / "x.json")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("daily_loop: `git clone --quiet ")
    assert "left with 128: " in said
    assert not (tmp_path / "x.json").exists()
    words = [sys.executable, "-c", "import sys; print('first'); sys.exit('last')"]
    with pytest.raises(daily_loop.FailedError, match=r"left with 1: last$"):
        daily_loop.timed(words, tmp_path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--repetitions", "2"], "--repetitions 2: at least 3 are taken"),
        (["--json", "no/x.json"], "--json no/x.json: there is no folder no"),
    ],
)
def test_held_wrong(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(daily_loop.main, words, capsys)


def test_what_was_not_measured_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daily_loop_tables, "there", lambda name: False)
    assert daily_loop_tables.daily_loop() == []
