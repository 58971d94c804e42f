"""`study`: its plan, and from the command line what it trains, compares, keeps and refuses."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.errors import RefusedInputError
from reference_reasoner.engine.studies import study
from reference_reasoner.engine.studies.jobs import Job
from reference_reasoner.engine.studies.study import Plan

from ..toy.command_line import TOY, CommandLine, main

ROOT = Path(__file__).resolve().parents[3]
PATHS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
SHORT = ("--training.steps", "6", "--training.warmup-steps", "1")
ABLATE = (
    "study", "ablate", "toy", "--seeds", "0", "--processes", "2", *SHORT,
    "--vary", "no_carry", "use_carry=False",
)  # fmt: skip
PLAN = Plan(
    kind="ablate",
    preset="toy",
    changes={"training.steps": 6},
    variations={
        "baseline": {},
        "longer": {"training.steps": 9, "use_carry": False},
    },
    seeds=(3, 5),
)


# --- The plan ---------------------------------------------------------------------------------


def test_a_run_for_each_variation_and_seed_pairs_next_to_each_other() -> None:
    trials = PLAN.trials(Path("here"))
    assert [each.run_dir.name for each in trials] == [
        "baseline-seed3", "longer-seed3", "baseline-seed5", "longer-seed5",
    ]  # fmt: skip
    assert [(each.variation, each.seed) for each in trials][1] == ("longer", 3)


def test_a_variation_wins_over_what_changes_every_run() -> None:
    words = PLAN.trials(Path("here"))[3].train
    assert " ".join(words) == (
        "train --preset toy --run-dir here/longer-seed5 --resume --training.steps 9 "
        "--use_carry False --seed 5"
    )


def test_a_list_is_several_words() -> None:
    plan = replace(PLAN, changes={"model.sizes": (1, 2)})
    assert plan.trials(Path("here"))[0].train[-5:] == ("--model.sizes", "1", "2", "--seed", "3")


def test_more_variations_and_seeds_are_the_same_study() -> None:
    fewer = replace(PLAN, variations={"baseline": {}}, seeds=(3,))
    PLAN.check_same(fewer.as_json(), Path("here"))
    fewer.check_same(PLAN.as_json(), Path("here"))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (replace(PLAN, preset="smoke"), "another preset: it was 'smoke', now 'toy'"),
        (replace(PLAN, kind="seeds"), "another kind: it was 'seeds'"),
        (replace(PLAN, changes={}), "another changes: it was {}, now {'training.steps': 6}"),
        (
            replace(PLAN, variations={"longer": {"seed": 1}}),
            "another variation longer: it was {'seed': 1}",
        ),
    ],
)
def test_another_study_is_refused(other: Plan, sentence: str) -> None:
    with pytest.raises(RefusedInputError, match="name another --study-dir") as refused:
        PLAN.check_same(other.as_json(), Path("here"))
    assert sentence in str(refused.value)


# --- From the command line --------------------------------------------------------------------


@pytest.fixture
def line(project: Path, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(project, capsys)


def run_here(jobs: Sequence[Job], **how: Any) -> dict[Path, str]:
    """The jobs' commands in this process, where nothing has to be imported for each."""
    failed = {}
    for job in jobs:
        for words in job.commands:
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                code = main(words)
            if code:
                failed[job.run_dir] = f"exit code {code}: {said.getvalue().splitlines()[-1]}"
                break
    return failed


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes; `test_jobs` and the tests of kills and signals have them."""
    monkeypatch.setattr(study, "run_jobs", run_here)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project with a study that nothing disturbed, and what it printed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "pyproject.toml").touch()
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(study, "run_jobs", run_here)
        with contextlib.redirect_stdout(said):
            assert main(ABLATE) == 0
    return folder, said.getvalue()


def study_process(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        TOY.command(*words),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATHS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return found


def test_the_table_and_what_is_kept(finished: tuple[Path, str]) -> None:
    folder, out = finished
    lines = out.splitlines()
    assert lines[0] == "ablate toy: accuracy on validation, 30 examples, best weights"
    assert lines[1].split()[:4] == ["variation", "seed", "0", "mean"]
    assert [each.split()[0] for each in lines[2:4]] == ["baseline", "no_carry"]
    assert "95 % of studies" in lines[4]
    kept = read(folder / "runs" / "ablate-toy")
    assert kept["split"] == "validation"
    assert kept["environment"]["torch"]
    assert kept["argv"] == list(ABLATE)
    runs = {run["run"]: run for run in kept["runs"]}
    assert set(runs) == {"baseline-seed0", "no_carry-seed0"}
    for line_ in kept["comparison"]["lines"]:
        for seed, score in line_["by_seed"].items():
            run = runs[f"{line_['name']}-seed{seed}"]
            assert run["scores"]["accuracy"]["value"] == score
            assert f"{score:.4f}" in out
    one = runs["no_carry-seed0"]
    assert (one["step"], one["device"], one["threads"], one["failure"]) == (6, "cpu", 1, None)
    assert [point["step"] for point in one["curve"]] == [0, 5, 6]
    assert one["command"][4] == str(Path("runs") / "ablate-toy" / "no_carry-seed0")
    assert one["wall_s"] >= one["curve"][-1]["wall_s"] > 0


def test_a_killed_study_ends_with_the_same_table(
    finished: tuple[Path, str], line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", PATHS)
    killed = study_process(line.project, *ABLATE)
    folder = line.project / "runs" / "ablate-toy"
    while not list(folder.glob("*/checkpoints/step-*")):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()  # its children are left to themselves
    killed.communicate()
    assert "comparison" not in read(folder)
    assert line.done(*ABLATE) == finished[1]
    there, here = read(finished[0] / "runs" / "ablate-toy"), read(folder)
    assert here["comparison"] == there["comparison"]
    hashes = [[run["weights_sha256"] for run in each["runs"]] for each in (here, there)]
    assert hashes[0] == hashes[1]


def test_a_signal_saves_and_leaves(line: CommandLine) -> None:
    endless = [*ABLATE]
    endless[endless.index("--training.steps") + 1] = "100000"
    stopped = study_process(line.project, *endless)
    folder = line.project / "runs" / "ablate-toy"
    while len(list(folder.glob("*/checkpoints/step-*"))) < 3:
        assert stopped.poll() is None
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, err = stopped.communicate()
    assert stopped.returncode == 143
    assert "every run is saved; the same command goes on" in err
    states = [json.loads(path.read_text())["status"] for path in folder.glob("*/run.json")]
    assert set(states) == {"stopped"}


@pytest.mark.usefixtures("here")
def test_the_test_split_is_opened_once_for_all_seeds(
    finished: tuple[Path, str], line: CommandLine
) -> None:
    run = line.project / "runs" / "seeds-toy" / "baseline-seed0"
    shutil.copytree(finished[0] / "runs" / "ablate-toy" / "baseline-seed0", run)
    kept = (run / "run.json").read_bytes()
    stored = next((run / "predictions").glob("*.json"))
    fingerprint = json.loads(stored.read_text())["data_fingerprint"]
    opening = {"time": "t", "data_fingerprint": fingerprint, "run": "r", "weights_sha256": "w"}
    ledger = line.project / "test_ledger.jsonl"
    ledger.write_text(json.dumps(opening) + "\n")
    words = ("study", "seeds", "toy", *SHORT, "--processes", "2", "--test")
    line.done(*words[:-1], "--seeds", "0")
    table = read(run.parent)["comparison"]
    assert main([*words, "--seeds", "0"]) == 2
    assert read(run.parent)["comparison"] == table  # a refusal takes nothing away
    assert "--test: exit code 2" in (said := line.capsys.readouterr().err)
    assert "was opened on t for run r" in said
    out = line.done(*words, "--seeds", "0,1", "--again", "the end")
    assert out.startswith("seeds toy: accuracy on test, 30 examples")
    assert (run / "run.json").read_bytes() == kept  # nothing was trained again
    reasons = [json.loads(each).get("reason") for each in ledger.read_text().splitlines()]
    assert reasons == [None, "the end", "with the other runs of the study seeds-toy"]
    assert "difference" not in out


@pytest.mark.usefixtures("here")
def test_a_run_that_fails_is_named_after_the_table_of_the_others(line: CommandLine) -> None:
    words = ("study", "ablate", "toy", "--seeds", "0", *SHORT)
    code = main([*words, "--vary", "blown_up", "training.learning_rate=1e30"])
    said = line.capsys.readouterr()
    assert code == 1
    assert "baseline" in said.out
    assert "1 of 2 runs failed: blown_up-seed0: exit code 1" in said.err
    kept = read(line.project / "runs" / "ablate-toy")
    assert [run["failure"] is None for run in kept["runs"]] == [True, False]
    assert main([*words, "--training.learning-rate", "1e30", "--study-dir", "all"]) == 2
    assert main(["study", "seeds", *words[2:], "--training.learning-rate", "1e30"]) == 1
    assert "the baseline has no predictions" in line.capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["zeeds", "toy"], "invalid choice: 'zeeds'"),
        (["seeds", "toyy"], "there is no preset 'toyy'; did you mean toy?"),
        (["seeds", "toy", "--seeds", "0,x"], "--seeds 0,x: write whole numbers"),
        (["seeds", "toy", "--seeds", "1,1"], "--seeds 1,1: each at least 0, and none twice"),
        (["seeds", "toy", "--processes", "0"], "--processes 0: at least 1"),
        (["seeds", "toy", "--again", "why"], "give --test, too"),
        (["seeds", "toy", "--vary", "a", "seed=1"], "--vary belongs to `study ablate`"),
        (["seeds", "toy", "--model.widht", "1"], "did you mean --model.width?"),
        (["ablate", "toy"], "this task has no ablations of its own: name some with --vary"),
        (["ablate", "toy", "--vary", "a"], "--vary a: say what differs, FIELD=VALUE"),
        (["ablate", "toy", "--vary", "a", "seed=1"], "--vary a seed=1: write FIELD=VALUE"),
        (["ablate", "toy", "--vary", "a", "model.width"], "--vary a model.width: write FIELD"),
        (["ablate", "toy", "--vary", "a", "model.width=0"], "model.width must be at least 1"),
        (["ablate", "toy", "--vary", "a/b", "model.width=3"], "--vary a/b: a name has letters"),
        (["ablate", "toy", "--vary", "baseline", "model.width=3"], "is not baseline"),
    ],
)
def test_held_wrong(line: CommandLine, words: list[str], sentence: str) -> None:
    assert sentence in line.refused("study", *words)


def test_another_study_and_a_broken_file_are_refused(
    finished: tuple[Path, str], line: CommandLine
) -> None:
    shutil.copytree(finished[0] / "runs", line.project / "runs")
    changed = [word if word != "6" else "7" for word in ABLATE]
    assert "with another changes" in line.refused(*changed)
    (line.project / "runs" / "ablate-toy" / "study.json").write_text("{}")
    assert "study.json cannot be read" in line.refused(*ABLATE)
