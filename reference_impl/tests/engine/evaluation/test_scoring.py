"""Scoring a run, and the lock of the test split."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.data.test_lock import ledger_path, read_ledger
from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.evaluation import scoring
from reference_reasoner.engine.evaluation.scoring import evaluate_run, scores_table
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.training.task import Row

from ..toy.runs import facts, run_toy
from ..toy.task import ToyTask, toy


@pytest.fixture
def run_dir(project: Path) -> Path:
    run_toy(project / "runs" / "one")
    return project / "runs" / "one"


def score(run_dir: Path, split: str = "validation", task: Any = None, **more: Any) -> Any:
    which = more.pop("which", "best")
    manifest = RunManifest.load(run_dir)
    task = task or ToyTask(toy())
    return evaluate_run(task, run_dir, manifest, split=split, which=which, **more)  # type: ignore[arg-type]


def never_predict(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("it predicted")


class ListeningTask(ToyTask):
    """Remembers what it was told of validation."""

    told: Any = None

    def use_validation(self, scores: Any) -> None:
        self.told = scores


@pytest.mark.parametrize("which", ["best", "last"])
def test_the_task_is_told_what_these_weights_scored_on_validation(
    run_dir: Path, which: str
) -> None:
    task = ListeningTask(toy())
    result = score(run_dir, task=task, which=which)
    assert task.told["accuracy"] == result["scores"]["accuracy"]["value"]


def test_a_run_from_before_scores_were_kept_is_scored(run_dir: Path) -> None:
    path = run_dir / "run.json"
    said = json.loads(path.read_text())
    del said["best"]["scores"]
    path.write_text(json.dumps(said))
    task = ListeningTask(toy())
    score(run_dir, task=task)
    assert task.told == {}


def test_the_best_weights_score_as_in_training(run_dir: Path) -> None:
    result = score(run_dir)
    best = facts(run_dir)["best"]
    accuracy = result["scores"]["accuracy"]
    assert (accuracy["value"], result["step"]) == (best["value"], best["step"])
    assert accuracy["low"] < accuracy["value"] <= accuracy["high"] <= 1
    assert (result["examples"], result["replayed"]) == (30, False)
    rows = next((run_dir / "predictions").glob("*.jsonl")).read_text().splitlines()
    assert len(rows) == 30
    assert {"example_id", "target", "output", "confidence", "slices"} == set(json.loads(rows[0]))
    assert f"accuracy            {accuracy['value']:.4f}" in scores_table(result)


def test_long_names_of_scores_do_not_touch_their_values(run_dir: Path) -> None:
    result = score(run_dir)
    name = "accuracy_where_nobody_ever_looked"
    result["scores"][name] = {"value": 0.5, "low": 0.25, "high": 0.75}
    lines = scores_table(result).splitlines()[1:]
    assert lines[-1].split()[:2] == [name, "0.5000"]
    assert len({line.index("95 % interval") for line in lines}) == 1


def test_the_last_weights_are_those_of_the_last_step(run_dir: Path) -> None:
    result = score(run_dir, which="last")
    assert (result["step"], result["checkpoint"]) == (20, "last")
    assert result["scores"]["accuracy"]["value"] == facts(run_dir)["final_metrics"]["raw/accuracy"]
    assert result["weights_sha256"] == facts(run_dir)["weights_sha256"]


def test_the_test_split_is_opened_once_and_then_replayed(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score(run_dir, "test")
    assert [o["run"] for o in read_ledger(ledger_path())] == ["runs/one"]
    monkeypatch.setattr(scoring, "predict", never_predict)
    second = score(run_dir, "test")
    assert (first["replayed"], second["replayed"]) == (False, True)
    assert second["scores"] == first["scores"]
    assert "nothing opened" in scores_table(second)
    assert len(read_ledger(ledger_path())) == 1


def test_the_same_weights_in_another_folder_replay_too(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = score(run_dir, "test")
    copy = run_dir.parent / "copy"
    shutil.copytree(run_dir, copy)
    shutil.rmtree(copy / "predictions")
    monkeypatch.setattr(scoring, "predict", never_predict)
    assert score(copy, "test")["scores"] == first["scores"]
    assert len(read_ledger(ledger_path())) == 1


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_lost_predictions_of_the_same_weights_are_made_again(run_dir: Path, damage: str) -> None:
    first = score(run_dir, "test")
    path = next((run_dir / "predictions").glob("test-*.jsonl"))
    if damage == "remove":
        path.unlink()
    else:
        path.write_text(path.read_text().replace("0", "1", 1))
    second = score(run_dir, "test")
    assert (second["replayed"], second["scores"]) == (False, first["scores"])
    assert len(read_ledger(ledger_path())) == 1


def test_other_weights_are_refused_without_a_reason(project: Path, run_dir: Path) -> None:
    score(run_dir, "test")
    run_toy(project / "runs" / "two", {"seed": 1})
    ledger = ledger_path().read_bytes()
    for reason in (None, "", "  "):
        with pytest.raises(RefusedInputError, match="for run runs/one: a second look"):
            score(project / "runs" / "two", "test", again=reason)
    assert ledger_path().read_bytes() == ledger
    assert not (project / "runs" / "two" / "predictions").exists()
    score(project / "runs" / "two", "test", again="a bug in the data")
    assert [o["reason"] for o in read_ledger(ledger_path())] == [None, "a bug in the data"]


def test_other_data_have_a_lock_of_their_own(project: Path, run_dir: Path) -> None:
    score(run_dir, "test")
    run_toy(project / "runs" / "two", {"data.noise": 0.2})
    other = ToyTask(replace(toy(), data=replace(toy().data, noise=0.2)))
    score(project / "runs" / "two", "test", other)
    assert len(read_ledger(ledger_path())) == 2


def test_whoever_is_killed_while_predicting_has_looked(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "predict", never_predict)
    with pytest.raises(AssertionError):
        score(run_dir, "test")
    assert len(read_ledger(ledger_path())) == 1


def test_data_other_than_the_runs_are_refused(run_dir: Path) -> None:
    other = ToyTask(replace(toy(), data=replace(toy().data, noise=0.2)))
    with pytest.raises(RefusedInputError, match=r"trained on the data toy-60-0\.1, now it is toy"):
        score(run_dir, task=other)


def test_damaged_weights_fail(run_dir: Path) -> None:
    for folder in (run_dir / "best").iterdir():
        (folder / "model.safetensors").unlink()
    with pytest.raises(RunFailedError, match=r"model\.safetensors is missing"):
        score(run_dir)


def test_each_example_needs_exactly_one_row(run_dir: Path) -> None:
    class Forgetful(ToyTask):
        def predict(self, model: Any, batch: Any) -> list[Row]:
            return super().predict(model, batch)[1:]

    with pytest.raises(RunFailedError, match="29 predictions for 29 of 30 examples"):
        score(run_dir, task=Forgetful(toy()))


def test_a_score_that_is_not_finite_fails(run_dir: Path) -> None:
    class NanScores(ToyTask):
        def scores(self, rows: Any) -> dict[str, float]:
            return {"accuracy": float("inf")}

    with pytest.raises(RunFailedError, match="the score accuracy is inf on the validation split"):
        score(run_dir, task=NanScores(toy()))


def test_a_run_outside_the_project_is_named_in_full(
    run_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(run_dir, outside)
    score(outside, "test")
    assert read_ledger(ledger_path())[0]["run"] == str(outside.resolve())
