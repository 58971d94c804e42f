"""The doctor passes what is healthy and finds each fault that was planted, one by one."""

import os
import random
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import get_worker_info

from reference_reasoner.engine.commands import doctor as command
from reference_reasoner.engine.config.fields import flatten, overlay
from reference_reasoner.engine.data.dataset import Batch, Splits
from reference_reasoner.engine.evaluation.predictions import make_evaluator
from reference_reasoner.engine.evaluation.scoring import evaluate_run
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.training import session as run_files
from reference_reasoner.engine.training.resume import saved_config
from reference_reasoner.engine.verification import training_checks
from reference_reasoner.engine.verification.doctor import (
    Check,
    Examination,
    FailedError,
    Outcome,
    SkippedError,
    examine,
    failures,
    say_outcomes,
)
from reference_reasoner.engine.verification.run_checks import checks_of_run

from ..toy.command_line import TOY, main, toy_budgets
from ..toy.runs import ROOT, run_toy, start_toy
from ..toy.task import ToyDataset, ToyTask, toy

MAY_BE_SKIPPED = {"GPU", "devices"}
OF_A_RUN = {"run integrity", "claims"}


def launch(config: Any, run_dir: Path, variables: Mapping[str, str]) -> int:
    """A process that trains the toy."""
    plain = flatten(toy())
    changed = {name: value for name, value in flatten(config).items() if value != plain[name]}
    return start_toy(run_dir, changed, True, **variables).returncode


def nothing(config: Any, run_dir: Path, variables: Mapping[str, str]) -> int:
    """A process that cannot be started."""
    return 1


def examination(
    folder: Path, task_type: type[ToyTask], run: Path | None, launch: Any = nothing
) -> Examination:
    """What is looked at."""
    return Examination(
        task_name="toy",
        task_type=task_type,
        folder=folder,
        make_evaluator=make_evaluator,
        launch=launch,
        run=RunManifest.load(run) if run else None,
        budgets=TOY.budgets_path("toy"),
    )


def look(
    task_type: type[ToyTask] = ToyTask, run: Path | None = None, launch: Any = nothing
) -> dict[str, Outcome]:
    """All of it."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        exam = examination(Path(folder), task_type, run, launch)
        outcomes = examine(exam, command.all_checks(exam), lines.append)
    assert lines == [outcome.line() for outcome in outcomes]
    return {outcome.name: outcome for outcome in outcomes}


def see(name: str, task_type: type[ToyTask] = ToyTask, run: Path | None = None) -> Outcome:
    """One item alone, which costs less."""
    with tempfile.TemporaryDirectory() as folder:
        exam = examination(Path(folder), task_type, run)
        (item,) = (item for item in command.all_checks(exam) if item.name == name)
        return item.outcome()


def fault(name: str, task_type: type[ToyTask] = ToyTask, run: Path | None = None) -> str:
    """What the item says, which must have failed."""
    outcome = see(name, task_type, run)
    assert outcome.state == "failed", outcome
    return outcome.text


@pytest.fixture
def run_dir(project: Path) -> Path:
    """A finished run of the toy, evaluated, in a project with a budget."""
    run = project / "runs" / "0001"
    assert run_toy(run) == 0
    manifest = RunManifest.load(run)
    task = ToyTask(saved_config(manifest, toy()))
    evaluate_run(task, run, manifest, split="validation", which="best", again=None)
    toy_budgets().write_text("[toy]\nparameters = 100000\n")
    return run


def test_a_healthy_project_passes_everything(run_dir: Path) -> None:
    outcomes = look(run=run_dir, launch=launch)
    states = {name: outcome.state for name, outcome in outcomes.items()}
    assert {name for name, state in states.items() if state == "skipped"} == MAY_BE_SKIPPED
    assert failures(list(outcomes.values())) == "", outcomes
    assert "1 stored results scored again" in outcomes["scores"].text
    assert "SIGKILL in step" in outcomes["kill"].text


def test_without_a_run_and_a_budget_that_is_said(project: Path) -> None:
    outcomes = look()
    assert failures(list(outcomes.values())) == "kill"
    skipped = {name: each.text for name, each in outcomes.items() if each.state == "skipped"}
    assert set(skipped) == MAY_BE_SKIPPED | OF_A_RUN | {"budgets"}
    assert skipped["run integrity"] == "no run yet: train one"
    assert skipped["budgets"].startswith("no budget for ")
    assert outcomes["kill"].text == "the process left with 1 and was to be killed by SIGKILL (-9)"


# --- Faults of the data -----------------------------------------------------------------------


def with_training_data(kind: type[ToyDataset]) -> type[ToyTask]:
    class Planted(ToyTask):
        def datasets(self) -> Splits:
            splits = super().datasets()
            train = kind("train", self.config.data.examples, self.config.data.noise)
            return Splits(
                train=train,
                validation=splits.validation,
                test=splits.test,
                fingerprint=splits.fingerprint,
            )

    return Planted


def unseeded(draw: Any) -> type[ToyDataset]:
    class Unseeded(ToyDataset):
        def example(self, index: int, generator: torch.Generator | None) -> Batch:
            example = super().example(index, generator)
            return {**example, "point": example["point"] + float(draw())}

    return Unseeded


@pytest.mark.parametrize(
    "draw",
    [lambda: torch.rand(()), random.random, np.random.rand, np.random.default_rng().random],
    ids=["torch", "random", "numpy", "numpy's generator"],
)
def test_an_unseeded_call_in_a_data_set(project: Path, draw: Any) -> None:
    said = fault("augmentation", with_training_data(unseeded(draw)))
    assert "example 0 of the train split differs from call to call in point" in said


class OfWorkers(ToyDataset):
    """Its augmentation depends on who makes it."""

    def example(self, index: int, generator: torch.Generator | None) -> Batch:
        example = super().example(index, generator)
        worker = get_worker_info()
        return {**example, "point": example["point"] + (0 if worker is None else 1 + worker.id)}


def test_an_augmentation_that_depends_on_the_worker(project: Path) -> None:
    said = fault("workers", with_training_data(OfWorkers))
    assert said == "the batch of step 1 depends on the number of loader workers, in point"


class Leaking(ToyTask):
    """Example 3 of the training split stands in the test split, too."""

    def datasets(self) -> Splits:
        splits = super().datasets()
        for name in ("points", "labels"):
            getattr(splits.test, name)[4] = getattr(splits.train, name)[4]
        return splits


def test_a_split_that_leaks(project: Path) -> None:
    said = fault("leakage", Leaking)
    assert "example 4 of the test split is the same as example 4 of the train split" in said


class Unsteady(ToyTask):
    """Its data have another fingerprint each time."""

    loads = 0

    def datasets(self) -> Splits:
        splits = super().datasets()
        type(self).loads += 1
        return Splits(
            train=splits.train,
            validation=splits.validation,
            test=splits.test,
            fingerprint=f"load {self.loads}",
        )


def test_data_that_change_from_load_to_load(project: Path) -> None:
    assert "two loads have the fingerprints" in fault("data version", Unsteady)


def test_a_run_on_other_data(run_dir: Path) -> None:
    RunManifest.load(run_dir).update(data_fingerprint="of last year")
    said = fault("data version", run=run_dir)
    assert said == "0001 was trained on of last year, and its config now gives toy-60-0.1"


def test_an_order_that_is_none(project: Path) -> None:
    with patch("reference_reasoner.engine.verification.data_checks.indices_of_step") as drawn:
        drawn.side_effect = lambda step, **_: [(0, 0)]
        said = fault("order")
    assert said == "epoch 0 is no permutation of the examples"


# --- Faults of training -----------------------------------------------------------------------


class Remembering(ToyTask):
    """Its loss depends on how often this process has computed it."""

    calls = 0

    def loss(self, model: nn.Module, batch: Batch, carry: Any, keys: Any) -> Any:
        type(self).calls += 1
        batch = {**batch, "point": batch["point"] * (1 + 1e-3 * self.calls)}
        return super().loss(model, batch, carry, keys)


def test_a_task_that_is_no_function_of_its_input(project: Path) -> None:
    assert "the same run twice: weights_sha256 and state_sha256 differ" in (
        fault("seeds", Remembering)
    )
    assert "less often: weights_sha256" in fault("intervals", Remembering)
    assert "stopped after step 7 and resumed: weights" in fault("resume", Remembering)


def test_a_seed_that_changes_nothing(project: Path) -> None:
    hashes = {"weights_sha256": "a", "state_sha256": "b"}
    with patch.object(training_checks, "hashes_at", return_value=hashes):
        assert "another seed gives the same weights" in fault("seeds")


class PerBatch(ToyTask):
    """One of its terms is a mean, which it says is a sum."""

    def loss(self, model: nn.Module, batch: Batch, carry: Any, keys: Any) -> Any:
        output = super().loss(model, batch, carry, keys)
        rows = len(batch["label"])
        output.terms["label"] = output.terms["label"] / rows  # type: ignore[index]
        return output


def test_a_term_that_is_no_sum(project: Path) -> None:
    said = fault("accumulation", PerBatch)
    assert said.startswith("1 x 4 and 4 x 1 differ by ")


class Normalising(ToyTask):
    """Its model has a batch norm."""

    def build_model(self) -> nn.Module:
        model = super().build_model()
        model.blocks = nn.ModuleList([nn.BatchNorm1d(self.config.model.width)])
        return model


def test_a_batch_norm_is_said_to_depend_on_the_split(project: Path) -> None:
    outcome = see("accumulation", Normalising)
    assert outcome.state == "passed"
    assert "normalises over the batch" in outcome.text


def test_on_a_gpu_two_runs_are_compared(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA Fake")
    kept = training_checks.Examination.train

    def train(exam: Any, name: str, overrides: Any = None, **more: Any) -> Path:
        on_cpu = {} if overrides == {"runtime.device": "cuda"} else overrides
        return kept(exam, name, on_cpu, **more)

    monkeypatch.setattr(training_checks.Examination, "train", train)
    monkeypatch.setattr(run_files, "environment", dict)
    assert see("GPU").text == "12 steps twice on NVIDIA Fake: the same hashes"


# --- Faults of a run, and of the project ------------------------------------------------------


@pytest.mark.parametrize("parent", ["checkpoints", "best"])
def test_a_flipped_byte(run_dir: Path, parent: str) -> None:
    weights = sorted((run_dir / parent).glob("step-*/model.safetensors"))[-1]
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    said = fault("run integrity", run=run_dir)
    assert said == f"{parent}/{weights.parent.name}: model.safetensors does not match its sha256"


def test_a_run_without_checkpoints(run_dir: Path) -> None:
    for parent in ("checkpoints", "best"):
        shutil.rmtree(run_dir / parent)
    assert "holds no checkpoint" in fault("run integrity", run=run_dir)


def test_a_claim_that_nothing_recorded(run_dir: Path) -> None:
    manifest = RunManifest.load(run_dir)
    manifest.update(best={**manifest.data["best"], "value": 0.999})
    assert "run.json claims accuracy 0.999 at step" in fault("claims", run=run_dir)
    manifest.update(best=None)
    assert see("claims", run=run_dir).text == "0001 was never evaluated"


def test_a_score_that_the_predictions_do_not_give(run_dir: Path) -> None:
    path = next((run_dir / "predictions").glob("*.json"))
    text = path.read_text()
    path.write_text(text.replace('"value": 0.9', '"value": 0.8'))
    assert text != path.read_text()
    assert "and is said to be 0.8" in fault("scores", run=run_dir)
    next((run_dir / "predictions").glob("*.jsonl")).unlink()
    assert "are damaged or gone" in fault("scores", run=run_dir)


def test_a_budget_that_is_exceeded(run_dir: Path) -> None:
    toy_budgets().write_text("[toy]\nparameters = 10\n")
    assert "is over the budget 10 by" in fault("budgets", run=run_dir)


def test_another_environment_is_said(run_dir: Path) -> None:
    manifest = RunManifest.load(run_dir)
    manifest.update(environment={**manifest.data["environment"], "torch": "1.0"})
    outcome = see("environment", run=run_dir)
    assert outcome.state == "passed"
    assert "0001 is not comparable here: torch was '1.0'" in outcome.text


def test_a_ledger_that_is_damaged(project: Path) -> None:
    (project / "test_ledger.jsonl").write_text("{}\n")
    assert "RefusedInputError: " in fault("test split")


# --- Items, and the command -------------------------------------------------------------------


def raising(error: Exception) -> Check:
    def check() -> str:
        raise error

    return Check(name="it", proof="`doctor`", look=check)


def test_outcomes() -> None:
    assert raising(SkippedError("no GPU")).outcome().state == "skipped"
    assert raising(FailedError("so\nand  so")).outcome().text == "so and so"
    broken = raising(ValueError("broken")).outcome()
    assert (broken.state, broken.text) == ("failed", "ValueError: broken")
    passed = Check(name="it", proof="x", look=lambda: "seen").outcome()
    assert passed.line() == "it               passed:   seen  (x)"
    lines: list[str] = []
    assert failures(say_outcomes([raising(ValueError("broken"))], lines.append)) == "it"


def test_the_command(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "all_checks", checks_of_run)  # the others cost time
    assert main(["doctor"]) == 0
    assert "run integrity    passed:   " in capsys.readouterr().out
    weights = next(run_dir.glob("checkpoints/step-*/model.safetensors"))
    weights.write_bytes(b"")
    assert main(["doctor", "0001"]) == 1
    told = capsys.readouterr()
    assert "run integrity    failed:   " in told.out
    assert told.err.count("\n") == 1
    assert "the doctor found something: run integrity; see the lines above" in told.err
    assert main(["doctor", "0002"]) == 2
    assert main(["doctor", "--all"]) == 2


def test_without_a_run_the_first_task_is_looked_at(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "all_checks", lambda exam: [raising(SkippedError(exam.task_name))])
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "it               skipped:  toy  (`doctor`)\n"


def test_the_process_that_is_launched(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = replace(TOY, program="tests.engine.toy.runs")
    config = overlay(toy(), {"training.steps": 7}, "test")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    assert command.train_in_a_process(TOY, "toy", config, project / "run", {}) == 0
    assert RunManifest.load(project / "run").data["step"] == 7
    assert command.train_in_a_process(nobody, "toy", config, project / "other", {}) == 1
    assert "steps = 7" in (project / "run.toml").read_text()
    launched = []
    monkeypatch.setattr(command, "train_in_a_process", lambda *told: launched.append(told) or 1)
    kept = command.all_checks
    only_kill = lambda exam: [item for item in kept(exam) if item.name == "kill"]  # noqa: E731
    monkeypatch.setattr(command, "all_checks", only_kill)
    assert main(["doctor"]) == 1
    assert [preset for _, preset, *_ in launched] == ["default"]
