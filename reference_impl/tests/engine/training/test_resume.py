"""A run that was interrupted and resumed equals one that was not."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.tracking.run_directory import RunLock
from reference_reasoner.engine.training import session
from reference_reasoner.engine.training import session as run_files
from reference_reasoner.engine.training.parallel import Ranks
from reference_reasoner.engine.training.task import Carry, LossOutput, StepKeys

from ..toy.runs import (
    VARIANTS,
    CrashError,
    crashing_at,
    facts,
    outcome,
    records,
    run_toy,
)
from ..toy.task import ToyTask

EPOCH_STEPS = 5  # 60 examples in batches of 12


def crash(run_dir: Path, step: int, overrides: dict[str, Any], *, resume: bool) -> None:
    with pytest.raises(CrashError):
        run_toy(run_dir, overrides, task_type=crashing_at(step), resume=resume)


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_crashes_within_an_epoch_change_nothing(project: Path, variant: str) -> None:
    overrides = VARIANTS[variant]
    run_toy(project / "whole", overrides)
    crash(project / "parts", 7, overrides, resume=False)
    crash(project / "parts", 9, overrides, resume=True)
    run_toy(project / "parts", overrides, resume=True)
    assert outcome(project / "parts") == outcome(project / "whole")
    assert [s["from_step"] for s in facts(project / "parts")["sessions"]] == [0, 4, 8]


@pytest.mark.parametrize("step", [1, EPOCH_STEPS, EPOCH_STEPS + 1, 20])
def test_a_crash_at_any_place_of_the_epoch_changes_nothing(project: Path, step: int) -> None:
    run_toy(project / "whole")
    crash(project / "parts", step, {}, resume=False)
    assert facts(project / "parts")["status"] == "failed"
    run_toy(project / "parts", resume=True)
    assert outcome(project / "parts") == outcome(project / "whole")


class SignalledTask(ToyTask):
    """Sends itself a signal in the middle of a step, or of the evaluation after it."""

    number = signal.SIGTERM
    step_of_signal = 6
    in_evaluation = False
    reached = 0

    def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
        type(self).reached = keys.step
        if keys.step == self.step_of_signal and not self.in_evaluation:
            os.kill(os.getpid(), self.number)
        return super().loss(model, batch, carry, keys)

    def predict(self, model: Any, batch: Any) -> Any:
        if self.reached == self.step_of_signal and self.in_evaluation:
            os.kill(os.getpid(), self.number)
        return super().predict(model, batch)


@pytest.mark.parametrize("in_evaluation", [False, True])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves(
    project: Path, number: signal.Signals, code: int, in_evaluation: bool
) -> None:
    overrides = {"training.accumulation_steps": 3, "evaluation.every_steps": 3}
    run_toy(project / "whole", overrides)
    changes = {"number": number, "in_evaluation": in_evaluation}
    task_type = type("Signalled", (SignalledTask,), changes)
    assert run_toy(project / "parts", overrides, task_type=task_type) == code
    stopped = facts(project / "parts")
    assert (stopped["status"], stopped["stop_reason"]) == ("stopped", number.name)
    assert stopped["stop_step"] == (6 if in_evaluation else 5)
    run_toy(project / "parts", overrides, resume=True)
    assert outcome(project / "parts") == outcome(project / "whole")


def test_a_signal_between_two_steps_stops_there(project: Path) -> None:
    class LastMicroBatch(ToyTask):
        def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
            if keys.step == 6:  # there is one micro-batch: the next poll comes after the step
                os.kill(os.getpid(), signal.SIGTERM)
            return super().loss(model, batch, carry, keys)

    assert run_toy(project / "parts", task_type=LastMicroBatch) == 143
    assert facts(project / "parts")["stop_step"] == 6


def test_a_resume_without_a_run_starts_one(project: Path) -> None:
    assert run_toy(project / "run", resume=True) == 0
    assert facts(project / "run")["status"] == "finished"


def test_a_kill_before_the_first_checkpoint_loses_nothing_but_time(project: Path) -> None:
    run_toy(project / "whole")
    run_dir = project / "parts"
    run_dir.mkdir()
    (run_dir / "config.toml").write_text("")
    run_toy(run_dir, resume=True)
    assert outcome(run_dir) == outcome(project / "whole")


def test_a_finished_run_stays_as_it_is(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(project / "run")
    before = {p: p.stat().st_mtime_ns for p in (project / "run").rglob("*")}
    assert run_toy(project / "run", resume=True) == 0
    assert {p: p.stat().st_mtime_ns for p in (project / "run").rglob("*")} == before
    assert "nothing to do" in capsys.readouterr().err


def test_an_extension_goes_on_and_says_so(project: Path) -> None:
    overrides = {"training.schedule": "constant"}
    run_toy(project / "long", {**overrides, "training.steps": 30})
    run_toy(project / "run", overrides)
    with pytest.raises(RefusedInputError, match="--extend-to 5 is below the run's 20 steps"):
        run_toy(project / "run", overrides, resume=True, extend_to=5)
    run_toy(project / "run", overrides, resume=True, extend_to=30)
    assert facts(project / "run")["trajectories"] == [
        {"from_step": 0, "steps": 20},
        {"from_step": 20, "steps": 30},
    ]
    for name in ("weights_sha256", "state_sha256"):
        assert facts(project / "run")[name] == facts(project / "long")[name]
    run_toy(project / "run", {**overrides, "training.steps": 30}, resume=True)  # is finished


def test_an_extension_needs_a_run(project: Path) -> None:
    with pytest.raises(RefusedInputError, match="holds none"):
        run_toy(project / "run", resume=True, extend_to=30)
    assert not (project / "run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"training.learning_rate": 0.5}, "training.learning_rate was 0.01, now 0.5"),
        ({"seed": 3}, "seed was 0, now 3"),
        ({"training.steps": 40}, "give --extend-to"),
        ({"model.width": 16}, "model.width was 8, now 16"),
    ],
)
def test_another_trajectory_is_refused(project: Path, change: dict[str, Any], words: str) -> None:
    crash(project / "run", 7, {}, resume=False)
    before = (project / "run" / "run.json").read_bytes()
    with pytest.raises(RefusedInputError, match=words):
        run_toy(project / "run", change, resume=True)
    assert (project / "run" / "run.json").read_bytes() == before


def test_a_config_file_edited_behind_our_back_is_refused(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)
    path = project / "run" / "config.toml"
    path.write_text(path.read_text().replace("learning_rate = 0.01", "learning_rate = 0.02"))
    with pytest.raises(RefusedInputError, match=r"learning_rate was 0.01, now 0.02"):
        run_toy(project / "run", {"training.learning_rate": 0.02}, resume=True)


def test_other_data_are_refused(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)

    class OtherData(ToyTask):
        def datasets(self) -> Any:
            return replace(super().datasets(), fingerprint="other")

    with pytest.raises(RefusedInputError, match=r"data_fingerprint was 'toy-60-0\.1', now 'other'"):
        run_toy(project / "run", resume=True, task_type=OtherData)


def test_another_world_size_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(project / "run", 7, {}, resume=False)
    monkeypatch.setattr(session.parallel, "current", lambda: Ranks(world_size=2))
    with pytest.raises(RefusedInputError, match="world_size was 1, now 2"):
        run_toy(project / "run", resume=True)


def test_another_task_is_refused(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)
    path = project / "run" / "run.json"
    path.write_text(path.read_text().replace('"task": "toy"', '"task": "digits"'))
    with pytest.raises(RefusedInputError, match="run of the task 'digits', not of 'toy'"):
        run_toy(project / "run", resume=True)


def test_a_changed_condition_is_allowed_said_and_recorded(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash(project / "run", 7, {}, resume=False)
    run_toy(project / "run", {"runtime.determinism": "off"}, resume=True)
    run_toy(project / "again", {"runtime.determinism": "run"})  # puts the global mode back
    words = "runtime.determinism was 'run', now 'off'"
    assert words in capsys.readouterr().err
    assert words in facts(project / "run")["sessions"][1]["warnings"][0]


def test_a_changed_library_is_allowed_said_and_recorded(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(project / "run", 7, {}, resume=False)
    there = run_files.environment()
    monkeypatch.setattr(run_files, "environment", lambda: {**there, "torch": "9.9"})
    run_toy(project / "run", resume=True)
    last = facts(project / "run")["sessions"][1]
    assert last["environment_changes"] == {"torch": [there["torch"], "9.9"]}
    assert "now '9.9'" in last["warnings"][0]


def test_free_fields_may_change(project: Path) -> None:
    run_toy(project / "whole")
    crash(project / "parts", 7, {}, resume=False)
    changes = {"evaluation.every_steps": 3, "checkpoint.every_steps": 7}
    run_toy(project / "parts", changes, resume=True)
    assert facts(project / "parts")["sessions"][1]["warnings"] == []
    for name in ("weights_sha256", "state_sha256"):
        assert facts(project / "parts")[name] == facts(project / "whole")[name]


def test_the_evaluation_interval_is_no_free_field_under_early_stopping(project: Path) -> None:
    overrides = VARIANTS["early stopping"]
    crash(project / "run", 3, overrides, resume=False)
    with pytest.raises(RefusedInputError, match=r"evaluation\.every_steps was 2, now 3"):
        run_toy(project / "run", {**overrides, "evaluation.every_steps": 3}, resume=True)


def test_a_run_in_use_is_refused(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)
    with RunLock(project / "run"), pytest.raises(RefusedInputError, match="in use by another"):
        run_toy(project / "run", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_with_other_files_is_refused(project: Path, resume: bool) -> None:
    (project / "run").mkdir()
    (project / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RefusedInputError, match="name another folder"):
        run_toy(project / "run", resume=resume)
    assert [p.name for p in (project / "run").iterdir()] == ["thesis.txt"]


def test_a_file_is_no_run_directory(project: Path) -> None:
    (project / "run").write_text("mine")
    with pytest.raises(RefusedInputError, match="is a file"):
        run_toy(project / "run")


def test_records_of_a_lost_future_are_dropped(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)
    steps = [r["step"] for r in records(project / "run") if r["kind"] == "train"]
    assert steps == [1, 2, 3, 4, 5, 6]
    crash(project / "run", 5, {}, resume=True)
    steps = [r["step"] for r in records(project / "run") if r["kind"] == "train"]
    assert steps == [1, 2, 3, 4]


def test_damaged_checkpoints_are_named_and_the_older_one_taken(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(project / "whole")
    crash(project / "parts", 15, {}, resume=False)
    newest = project / "parts" / "checkpoints" / "step-00000012"
    weights = newest / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run_toy(project / "parts", resume=True)
    said = capsys.readouterr().err
    assert "step-00000012: model.safetensors does not match its sha256" in said
    assert "going on from step 8" in said
    assert outcome(project / "parts") == outcome(project / "whole")
    assert (newest.parent / "refused-step-00000012").is_dir()


def test_only_damaged_checkpoints_end_the_run(project: Path) -> None:
    crash(project / "run", 7, {}, resume=False)
    for folder in (project / "run" / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
    with pytest.raises(RunFailedError, match=r"step-00000004: manifest\.json is missing"):
        run_toy(project / "run", resume=True)
