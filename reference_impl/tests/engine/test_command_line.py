"""Every command: what it does, what it prints, and how it refuses."""

import errno
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import reference_reasoner as package
from reference_reasoner.engine import atomic_write
from reference_reasoner.engine import command_line as cli
from reference_reasoner.engine.data.dataset import Splits
from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.project import Project
from reference_reasoner.engine.tracking.run_directory import RunLock

from .toy.command_line import TOY, CommandLine, contents, main
from .toy.task import ToyTask

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--training.steps", "6", "--training.warmup-steps", "1", "--evaluation.every-steps", "3")


@pytest.fixture
def line(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> CommandLine:
    monkeypatch.setenv("COLUMNS", "120")  # help is wrapped to the terminal's width
    return CommandLine(project, capsys)


@pytest.fixture
def run_dir(line: CommandLine) -> Path:
    """A finished run of six steps."""
    line.done("train", *SHORT)
    return line.project / "runs" / "0001"


# --- From the first command to the last -------------------------------------------------------


def test_train_evaluate_report_runs(line: CommandLine) -> None:
    line.done("train", "--preset", "smoke", *SHORT)
    run_dir = line.project / "runs" / "0001"
    said = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    assert (said["status"], said["step"], said["preset"]) == ("finished", 6, "smoke")
    assert said["argv"] == ["train", "--preset", "smoke", *SHORT]

    result_file = line.project / "result.json"
    shown = line.done("evaluate", "0001", "--json", result_file)
    result = json.loads(result_file.read_text(encoding="utf-8"))
    assert (result["run"], result["split"], result["checkpoint"]) == ("0001", "validation", "best")
    score = result["scores"]["accuracy"]
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
    assert f"{score['value']:.4f}" in shown
    assert result["examples"] == 30

    page = Path(line.done("report", run_dir).strip())
    assert page == run_dir / "report" / "report.html"
    assert page.read_text(encoding="utf-8").lstrip().startswith("<!")
    assert list(page.parent.glob("*.png"))

    assert "finished" in line.done("runs")
    (listed,) = json.loads(line.done("runs", "--json"))
    assert (listed["name"], listed["status"], listed["task"]) == ("0001", "finished", "toy")
    assert (listed["step"], listed["steps"], listed["metric"]) == (6, 6, "accuracy")
    assert listed["score"] == said["best"]["value"]


def test_runs_without_a_run(line: CommandLine) -> None:
    assert "no runs yet" in line.done("runs")
    assert json.loads(line.done("runs", "--json")) == []


def test_the_last_weights_can_be_evaluated_too(line: CommandLine, run_dir: Path) -> None:
    shown = line.done("evaluate", run_dir, "--checkpoint", "last")
    assert "last weights of step 6" in shown


def test_raw_and_averaged_weights_can_be_told_apart(line: CommandLine) -> None:
    line.done("train", *SHORT, "--training.ema-decay", "0.9")
    facts = json.loads((line.project / "runs" / "0001" / "run.json").read_text(encoding="utf-8"))
    found = {}
    for kind in ("raw", "ema", "last"):
        line.done("evaluate", "0001", "--checkpoint", kind, "--json", "result.json")
        found[kind] = json.loads(Path("result.json").read_text(encoding="utf-8"))
        assert (found[kind]["checkpoint"], found[kind]["step"]) == (kind, 6)
    assert found["raw"]["weights_sha256"] == facts["weights_sha256"]
    assert found["last"]["weights_sha256"] == facts["weights_sha256"]  # it selects on raw ones
    assert found["ema"]["weights_sha256"] != facts["weights_sha256"]
    for kind in ("raw", "ema"):
        final = facts["final_metrics"][f"{kind}/accuracy"]
        assert found[kind]["scores"]["accuracy"]["value"] == final


def test_a_run_without_averaged_weights_says_so(line: CommandLine, run_dir: Path) -> None:
    said = line.refused("evaluate", run_dir, "--checkpoint", "ema", code=1)
    assert "keeps no averaged weights: its training.ema_decay is 0" in said


def test_the_test_split_is_opened_once(line: CommandLine, run_dir: Path) -> None:
    ledger = line.project / "test_ledger.jsonl"
    first = line.done("evaluate", "0001", "--split", "test")
    opened = ledger.read_text(encoding="utf-8")
    assert len(opened.splitlines()) == 1
    again = line.done("evaluate", "0001", "--split", "test")
    assert "nothing opened" in again
    assert first.splitlines()[1:] == again.splitlines()[1:]
    assert ledger.read_text(encoding="utf-8") == opened
    line.done("train", "--seed", "1", *SHORT)
    assert "--again" in line.refused("evaluate", "0002", "--split", "test")
    line.done("evaluate", "0002", "--split", "test", "--again", "a second seed")
    last = ledger.read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["reason"] == "a second seed"


def test_a_finished_run_has_nothing_to_resume(
    line: CommandLine, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(line.project)
    capsys.readouterr()
    assert main(["train", "--resume", "--run-dir", str(run_dir)]) == 0
    assert "is finished: nothing to do" in capsys.readouterr().err
    assert contents(line.project) == before


def test_resume_starts_where_there_is_nothing_yet(line: CommandLine) -> None:
    line.done("train", "--resume", "--run-dir", "mine", *SHORT)
    assert (line.project / "mine" / "run.json").is_file()


def test_more_steps_and_other_weights_to_start_from(line: CommandLine, run_dir: Path) -> None:
    line.done("train", "--resume", "--run-dir", run_dir, "--extend-to", "8")
    assert json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["step"] == 8
    line.done("train", "--init-from", "0001", *SHORT)
    said = json.loads((line.project / "runs" / "0002" / "run.json").read_text(encoding="utf-8"))
    assert said["initialised_from"].endswith("0001")


# --- Help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(line: CommandLine, flag: str) -> None:
    shown = line.done(flag)
    assert all(f"  {name} " in shown for name in ("train", "evaluate", "report", "runs"))


def test_no_command_is_help_and_an_error(
    line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate", ["--split", "--checkpoint", "--json", "--again", "95 % b"]),
        ("report", ["RUN"]),
        ("runs", ["--json"]),
        (
            "train",
            [
                "--preset",
                "--config",
                "--run-dir",
                "--resume",
                "--extend-to",
                "--init-from",
                "--print-config",
                "--training.learning-rate",
                "--model.width",
                "Hidden width.",
            ],
        ),
    ],
)
def test_help_of_a_command(line: CommandLine, command: str, words: list[str]) -> None:
    for flag in ("-h", "--help"):
        shown = line.done(command, flag)
        assert all(word in shown for word in words)
    assert contents(line.project).keys() == {line.project / "pyproject.toml"}


def test_help_of_train_shows_the_values_of_the_preset(line: CommandLine) -> None:
    assert "default: 20" in line.done("train", "--preset", "toy", "--help")


# --- Refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trian", ["there is no command 'trian'", "did you mean train?", "evaluate"]),
        ("zzz", ["there is no command 'zzz'", "known: train"]),
        ("evaluate", ["RUN", "evaluate --help"]),
        ("evaluate nowhere", ["there is no run nowhere"]),
        ("evaluate nowhere --splt test", ["--splt", "did you mean --split?"]),
        ("evaluate nowhere --split tset", ["--split", "tset", "validation"]),
        ("evaluate nowhere --checkpoint first", ["--checkpoint", "first"]),
        ("evaluate nowhere --json none/x.json", ["there is no folder none"]),
        ("evaluate nowhere --spl test", ["--spl"]),
        ("report", ["RUN"]),
        ("report nowhere", ["there is no run nowhere"]),
        ("report nowhere else", ["else"]),
        ("runs --jsno", ["--jsno", "did you mean --json?"]),
        ("train --preset", ["--preset"]),
        ("train --preset smke", ["there is no preset 'smke'", "did you mean smoke?"]),
        ("train --resme", ["--resme", "did you mean --resume?"]),
        ("train --trainin.steps 3", ["--trainin.steps", "did you mean --training.steps?"]),
        ("train --training.step=3", ["--training.step", "did you mean --training.steps?"]),
        ("train stray", ["'stray' belongs to no flag"]),
        ("train --training.steps ten", ["training.steps", "ten"]),
        ("train --training.steps 1.5", ["training.steps", "1.5"]),
        ("train --training.steps", ["training.steps"]),
        ("train --training.steps 3 4", ["'4' belongs to no flag"]),
        ("train --training.learning-rate -0.1", ["training.learning_rate", "-0.1"]),
        ("train --training.learning-rate fast", ["training.learning-rate", "fast"]),
        ("train --training.schedule cosin", ["training.schedule", "cosin", "cosine"]),
        ("train --runtime.compile maybe", ["runtime.compile", "maybe"]),
        ("train --model.width 0", ["model.width must be at least 1, got 0"]),
        ("train --seed=-1", ["seed must be at least 0, got -1"]),
        ("train --config none.toml", ["none.toml", "cannot be read"]),
        ("train --config .", ["cannot be read"]),
        ("train --resume", ["--resume needs --run-dir", "there is no unfinished one"]),
        ("train --extend-to ten", ["--extend-to", "ten"]),
        ("train --extend-to 30", ["--extend-to needs a run to extend"]),
        ("train --init-from nowhere", ["there is no run nowhere"]),
        ("train --run-dir pyproject.toml", ["--run-dir pyproject.toml is a file"]),
    ],
)
def test_one_sentence_and_nothing_written(
    line: CommandLine, command: str, words: list[str]
) -> None:
    said = line.refused(*command.split())
    assert [word for word in words if word not in said] == [], said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[training\n", ["is not valid TOML"]),
        ("training.stps = 3\n", ["no field training.stps", "did you mean training.steps?"]),
        ('training.steps = "3"\n', ["training.steps must be of type int, got '3'"]),
        ("training.learning_rate = -1\n", ["training.learning_rate must be above 0, got -1"]),
        ('training.schedule = "linear"\n', ["training.schedule must be one of", "'linear'"]),
    ],
)
def test_a_config_file_that_cannot_be_used(line: CommandLine, text: str, words: list[str]) -> None:
    (line.project / "my.toml").write_text(text, encoding="utf-8")
    said = line.refused("train", "--config", "my.toml")
    assert [word for word in words if word not in said] == [], said


def test_data_that_cannot_be_used(line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(task: ToyTask) -> Splits:
        raise RefusedInputError("the data has the sha256 1, expected 2")

    monkeypatch.setattr(ToyTask, "datasets", damaged)
    assert line.refused("train") == "the data has the sha256 1, expected 2"


def test_a_tracker_that_is_not_installed(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    said = line.refused("train", "--tracking.tensorboard", "True")
    assert "tracking.tensorboard is on" in said


def test_a_run_directory_in_use(line: CommandLine, run_dir: Path) -> None:
    words = ("train", "--run-dir", run_dir, "--resume", "--extend-to", 9)
    with RunLock(run_dir):
        assert "is in use by another process" in line.refused(*words)
    line.done(*words)


def test_a_run_directory_that_is_not_empty(line: CommandLine, run_dir: Path) -> None:
    said = line.refused("train", "--run-dir", run_dir)
    assert "is not empty" in said
    assert "--resume" in said
    (line.project / "notes").mkdir()
    (line.project / "notes" / "todo.txt").touch()
    assert "holds other files" in line.refused("train", "--run-dir", "notes", "--resume")


def test_a_full_disk_leaves_no_half_of_a_result(
    line: CommandLine, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.done("evaluate", run_dir)  # its predictions are there
    line.capsys.readouterr()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_write.os, "fsync", full)
    before = contents(line.project)
    assert main(["evaluate", str(run_dir), "--json", "scores.json"]) == 1
    assert "the disk is full: " in line.capsys.readouterr().err
    assert contents(line.project) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--training.learning-rate", "0.5"], "training.learning_rate was 0.01, now 0.5"),
        (["--seed", "3"], "seed was 0, now 3"),
        (["--training.steps", "9"], "--extend-to"),
        (["--extend-to", "3"], "--extend-to 3 is below the run's 6 steps"),
    ],
)
def test_a_run_of_another_trajectory(
    line: CommandLine, run_dir: Path, words: list[str], said: str
) -> None:
    assert said in line.refused("train", "--run-dir", run_dir, "--resume", *words)


def test_resume_names_the_newest_unfinished_run(line: CommandLine, run_dir: Path) -> None:
    facts = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    stopped = json.dumps({**facts, "status": "stopped"})
    (run_dir / "run.json").write_text(stopped, encoding="utf-8")
    assert f"the newest unfinished one is {run_dir}" in line.refused("train", "--resume")


def test_a_damaged_run(line: CommandLine, run_dir: Path) -> None:
    (run_dir / "config.toml").write_text("[", encoding="utf-8")
    assert "config.toml is not valid TOML" in line.refused("evaluate", run_dir)
    (run_dir / "run.json").write_text("[", encoding="utf-8")
    assert "run.json cannot be read" in line.refused("report", run_dir)
    assert "unreadable" in line.done("runs")


def test_damaged_weights_are_a_failure(line: CommandLine, run_dir: Path) -> None:
    for weights in (run_dir / "best").glob("*/model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    line.refused("evaluate", run_dir, code=1)


# --- Commands of the project, and how they end ------------------------------------------------


def say(words: Sequence[str], project: Project) -> int:
    """A project's own command."""
    if words == ["refuse"]:
        raise RefusedInputError("no\nsuch   thing")
    if words == ["fail"]:
        raise RunFailedError("it broke")
    if words == ["fill"]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scores.json")
    if words == ["break"]:
        raise OSError(errno.EIO, "broken")
    if words == ["interrupt"]:
        raise KeyboardInterrupt
    assert project.tasks == TOY.tasks
    print("said", *words)
    return 3


def test_a_project_has_commands_of_its_own(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_say = replace(TOY, commands={"say": (f"{__name__}:say", "say it")})
    line = CommandLine(project, capsys, with_say)
    assert cli.run_command(["say", "a", "b"], with_say) == 3
    assert capsys.readouterr().out == "said a b\n"
    assert "say it" in line.done("--help")
    assert "did you mean say?" in line.refused("sey")
    assert line.refused("say", "refuse") == "no such thing"
    assert line.refused("say", "fail", code=1) == "it broke"
    assert line.refused("say", "interrupt", code=130) == "interrupted"
    assert "disk is full: scores.json could not" in line.refused("say", "fill", code=1)
    with pytest.raises(OSError, match="broken"):
        cli.run_command(["say", "break"], with_say)


def test_the_arguments_are_those_of_the_process(
    line: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", "runs"])
    assert main() == 0
    assert "no runs yet" in capsys.readouterr().out


def test_it_runs_as_a_module(project: Path) -> None:
    command = [sys.executable, "-m", package.__name__, "runz"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "did you mean runs?" in answer.stderr
    assert answer.stderr.startswith(f"{package.__name__}: ")


def test_a_reader_that_leaves_early_gets_no_traceback(project: Path) -> None:
    # more than a pipe holds: 200 lists of all commands
    script = (
        "import sys\n"
        "from unittest.mock import patch\n"
        "from reference_reasoner.__main__ import main\n"
        "from reference_reasoner.engine import command_line\n"
        "told = command_line._overview\n"
        "with patch.object(command_line, '_overview', lambda project: told(project) * 200):\n"
        "    sys.exit(main(['--help']))\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def without_a_reader(folder: Path, *words: str) -> int:
    """The exit code of a command of the toy project whose output nobody reads."""
    command = [sys.executable, "-m", "tests.engine.toy.command_line", *words]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=writing,
            stderr=writing,
            check=False,
        ).returncode
    finally:
        os.close(writing)


def test_training_goes_on_where_nobody_reads(project: Path) -> None:
    assert without_a_reader(project, "train", *SHORT) == 0
    said = json.loads((project / "runs" / "0001" / "run.json").read_text(encoding="utf-8"))
    assert (said["status"], said["step"], said["error"]) == ("finished", 6, None)
    assert without_a_reader(project, "train", "--preset", "nothing") == 2


def test_the_package_gives_what_a_notebook_needs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"{name} 1")
    with pytest.raises(RefusedInputError, match="there is no run nowhere"):
        package.load_model("nowhere")
    assert package.__version__ == f"{package.__name__} 1"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing
