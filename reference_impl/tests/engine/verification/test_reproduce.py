"""A run trained again is the same; whatever was changed is named."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from reference_reasoner.engine.config.fields import overlay
from reference_reasoner.engine.data.dataset import Splits
from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.evaluation.predictions import make_evaluator
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.tracking.run_directory import RunLock
from reference_reasoner.engine.training import guards, parallel
from reference_reasoner.engine.training.resume import saved_config
from reference_reasoner.engine.verification import reproduce as reproducing
from reference_reasoner.engine.verification.reproduce import (
    Verdict,
    differing_conditions,
    reproduce,
)

from ..toy.command_line import CommandLine
from ..toy.runs import CrashError, crashing_at, facts, run_toy
from ..toy.task import ToyTask, toy


def again(run_dir: Path, task_type: type[ToyTask] = ToyTask, **asked: Any) -> Verdict:
    manifest = RunManifest.load(run_dir)
    return reproduce(manifest, task_type(saved_config(manifest, toy())), make_evaluator, **asked)


def text(verdict: Verdict) -> str:
    return "\n".join(verdict.lines)


def edit(path: Path, old: str, new: str) -> None:
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that nobody changes."""
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    assert run_toy(run_dir) == 0
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, in another folder of the same machine."""
    return Path(shutil.copytree(finished, tmp_path / "elsewhere" / "first"))


def test_a_fresh_run_is_the_same_also_in_another_folder(run_dir: Path) -> None:
    verdict = again(run_dir)
    assert verdict.exit_code == 0
    assert "same: 25 records up to step 20; weights_sha256 and state_sha256" in text(verdict)
    beside = run_dir.parent / "first-reproduced"
    assert str(beside) in text(verdict)
    assert facts(beside)["state_sha256"] == facts(run_dir)["state_sha256"]
    assert again(run_dir, until=1).lines[0].endswith("first-reproduced-2")


def test_until_a_step_with_a_checkpoint_the_weights_are_compared_too(run_dir: Path) -> None:
    verdict = again(run_dir, until=16)
    assert verdict.exit_code == 0
    assert "weights_sha256 of step 16 are equal" in text(verdict)
    without = again(run_dir, until=7)
    assert without.exit_code == 0
    assert "no checkpoint of step 7 is kept" in text(without)
    assert facts(run_dir.parent / "first-reproduced-2")["step"] == 7


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("weight_decay = 0.01", "weight_decay = 0.02", "training.weight_decay is 0.02"),
        ("seed = 0", "seed = 1", "seed is 1, and was 0"),
        ("noise = 0.1", "noise = 0.2", "data_fingerprint: 'toy-60-0.1'"),
    ],
)
def test_an_edited_setting_is_different_and_named(
    run_dir: Path, old: str, new: str, field: str
) -> None:
    edit(run_dir / "config.toml", old, new)
    verdict = again(run_dir)
    assert verdict.exit_code == 1
    assert field in text(verdict)
    assert "different: " in text(verdict)


def test_without_a_checkpoint_the_first_step_that_differs_tells(run_dir: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    edit(run_dir / "config.toml", "weight_decay = 0.01", "weight_decay = 0.02")
    verdict = again(run_dir)
    assert verdict.exit_code == 1
    # AdamW's decay of step 1 shows in the loss of step 2
    assert "different: step 2, loss" in text(verdict)
    assert "weights_sha256 at step 20" in text(verdict)


class EditedRow(ToyTask):
    """One number of one training example is another, and the fingerprint does not tell."""

    def datasets(self) -> Splits:
        splits = super().datasets()
        splits.train.points[7, 0] += 1.0  # type: ignore[attr-defined]
        return splits


class LostData(ToyTask):
    """Its data are gone."""

    def datasets(self) -> Splits:
        raise RefusedInputError("points.csv does not match its checksum")


def test_an_edited_row_of_the_data_is_different(run_dir: Path) -> None:
    verdict = again(run_dir, EditedRow)
    assert verdict.exit_code == 1
    assert "different: step " in text(verdict)


def test_data_that_cannot_be_used_are_different(run_dir: Path) -> None:
    verdict = again(run_dir, LostData)
    assert verdict.exit_code == 1
    assert "points.csv does not match its checksum" in text(verdict)
    assert not (run_dir.parent / "first-reproduced").exists()


def test_a_record_that_is_missing_now_is_a_difference(run_dir: Path) -> None:
    edit(run_dir / "config.toml", "log_every_steps = 1", "log_every_steps = 2")
    verdict = again(run_dir)
    assert verdict.exit_code == 1
    assert "step 1, record (train): 'written' in the run, 'absent' now" in text(verdict)


def test_an_edited_hash_is_different(run_dir: Path) -> None:
    manifest = RunManifest.load(run_dir)
    manifest.update(state_sha256="0" * 64)
    verdict = again(run_dir)
    assert verdict.exit_code == 1
    assert "different: state_sha256 at step 20: 000000000000 in the run" in text(verdict)
    assert "all 25 records are equal" in text(verdict)


def test_other_threads_are_not_comparable(run_dir: Path) -> None:
    with patch("torch.set_num_threads"):  # two threads stall beside a busy neighbour
        verdict = again(run_dir, threads=2)
    assert verdict.exit_code == 3
    assert "not comparable bit for bit: threads was 1, now 2" in text(verdict)
    assert "how close: all 25 records are equal" in text(verdict)


def test_another_library_and_a_change_within_the_run_are_not_comparable(run_dir: Path) -> None:
    manifest = RunManifest.load(run_dir)
    before = {**manifest.data["environment"], "torch": "1.0"}
    sessions = [{"warnings": ["runtime.compile was True, now False: the last bits may differ"]}]
    manifest.update(environment=before, sessions=sessions)
    edit(run_dir / "config.toml", "seed = 0", "seed = 1")
    verdict = again(run_dir, until=3)
    assert verdict.exit_code == 3
    assert "torch was '1.0'" in text(verdict)
    assert "within the run runtime.compile was True, now False" in text(verdict)
    assert "fields in 4 records differ" in text(verdict)


def test_fast_kernels_of_a_gpu_are_not_comparable(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = facts(run_dir)
    fast = overlay(toy(), {"runtime.determinism": "off"}, "test")
    asked = (known, fast, known["environment"], parallel.Ranks())
    assert differing_conditions(*asked) == []
    monkeypatch.setattr(reproducing, "choose_device", lambda _: torch.device("cuda"))
    found = differing_conditions(*asked)
    assert found == ["device was 'cpu', now 'cuda'", "runtime.determinism is 'off'"]


def test_a_stopped_resumed_and_extended_run_is_trained_again_in_the_same_stretches(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    assert run_toy(run_dir, stop_at=9) == 0
    assert facts(run_dir)["status"] == "stopped"
    assert again(run_dir).exit_code == 0
    assert run_toy(run_dir, resume=True, extend_to=26) == 0
    assert [each["from_step"] for each in facts(run_dir)["trajectories"]] == [0, 9]
    verdict = again(run_dir)
    assert verdict.exit_code == 0, text(verdict)
    assert "up to step 26" in text(verdict)
    assert again(run_dir, until=8).exit_code == 0


def test_a_run_that_began_from_another_one(run_dir: Path, tmp_path: Path) -> None:
    child = tmp_path / "child"
    assert run_toy(child, init_from=run_dir) == 0
    assert again(child, until=5).exit_code == 0


def test_a_killed_run_is_compared_as_far_as_it_came(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(CrashError):
        run_toy(run_dir, task_type=crashing_at(11))
    RunManifest.load(run_dir).update(status="running")
    verdict = again(run_dir)
    assert verdict.exit_code == 0
    assert "up to step 10" in text(verdict)


class Exploding(ToyTask):
    """Its loss is not finite at step 6."""

    def loss(self, model: Any, batch: Any, carry: Any, keys: Any) -> Any:
        output = super().loss(model, batch, carry, keys)
        if keys.step != 6:
            return output
        return replace(output, terms={**output.terms, "label": output.terms["label"] * math.nan})


def test_a_run_that_failed_must_fail_again(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(RunFailedError, match="step 6 is not finite"):
        run_toy(run_dir, task_type=Exploding)
    verdict = again(run_dir, Exploding)
    assert verdict.exit_code == 0, text(verdict)
    mended = again(run_dir)
    assert mended.exit_code == 1
    assert "different: error: 'step 6 is not finite" in text(mended)


def test_a_failure_that_is_new_is_a_failure(run_dir: Path) -> None:
    with pytest.raises(RunFailedError, match="step 6"):
        again(run_dir, Exploding)


def test_a_signal_leaves_without_a_verdict(run_dir: Path) -> None:
    with patch.object(guards.SignalGuard, "exit_code", 143):
        verdict = again(run_dir, until=5)
    assert verdict.exit_code == 143
    assert "no verdict" in text(verdict)


@pytest.mark.parametrize("until", [0, 21])
def test_a_step_that_was_never_reached_is_refused(run_dir: Path, until: int) -> None:
    with pytest.raises(RefusedInputError, match=rf"--until {until}: .* up to step 20"):
        again(run_dir, until=until)


def test_what_cannot_be_reproduced_is_refused(run_dir: Path) -> None:
    with RunLock(run_dir), pytest.raises(RefusedInputError, match="still training"):
        again(run_dir)
    with pytest.raises(RefusedInputError, match=r"runtime\.threads"):
        again(run_dir, threads=0)
    (run_dir / "metrics.jsonl").write_text("")
    RunManifest.load(run_dir).update(stop_step=None, status="running")
    with pytest.raises(RefusedInputError, match="up to step 0"):
        again(run_dir)


def test_the_command(
    run_dir: Path,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = CommandLine(project, capsys)
    said = line.done("reproduce", run_dir, "--until", "5")
    assert "same: 7 records up to step 5" in said
    assert "there is no run" in line.refused("reproduce", "nowhere")
    data = json.loads((run_dir / "run.json").read_text())
    assert data["status"] == "finished"
