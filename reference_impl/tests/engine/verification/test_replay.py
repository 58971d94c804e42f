"""A step taken once more has the batch, the carry and the record of the first time."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.tracking.manifest import RunManifest
from reference_reasoner.engine.training import checkpoint
from reference_reasoner.engine.training.checkpoint import weights_sha256
from reference_reasoner.engine.training.resume import saved_config
from reference_reasoner.engine.verification.replay import Replay, gradient_norms, replay

from ..toy.command_line import TOY, CommandLine, main
from ..toy.runs import CrashError, run_toy
from ..toy.task import ToyTask, toy
from .test_reproduce import Exploding


class Logging(ToyTask):
    """Notes within each step the hash of what the step is given."""

    seen: dict[int, str] = {}  # noqa: RUF012 - shared on purpose: the trainer makes the task
    crash_at = 0

    def loss(self, model: Any, batch: Any, carry: Any, keys: Any) -> Any:
        if keys.step == self.crash_at:
            raise CrashError(f"step {keys.step}")
        self.seen[keys.step] = given(batch, carry)
        return super().loss(model, batch, carry, keys)


def given(batch: Any, carry: Any) -> str:
    return weights_sha256(batch) + weights_sha256(carry or {})


def crashing(step: int) -> type[Logging]:
    return type("CrashingLogging", (Logging,), {"crash_at": step})


def again(run_dir: Path, step: int, task_type: type[ToyTask] = ToyTask) -> Replay:
    manifest = RunManifest.load(run_dir)
    return replay(manifest, task_type(saved_config(manifest, toy())), step)


def saved(told: Replay) -> str:
    batch = safetensors.torch.load_file(told.folder / "batch.safetensors")
    carry = told.folder / "carry.safetensors"
    return given(batch, safetensors.torch.load_file(carry) if carry.exists() else None)


@pytest.mark.parametrize("use_carry", [True, False])
def test_the_saved_batch_is_that_of_the_step_also_after_a_kill(
    tmp_path: Path, use_carry: bool
) -> None:
    """Killed at step 11, resumed from the checkpoint of step 8; then every kind of step."""
    run_dir = tmp_path / "run"
    overrides = {"use_carry": use_carry}
    Logging.seen.clear()
    with pytest.raises(CrashError):
        run_toy(run_dir, overrides, task_type=crashing(11))
    assert run_toy(run_dir, overrides, task_type=Logging, resume=True) == 0
    seen = dict(Logging.seen)
    assert sorted(seen) == list(range(1, 21))
    for step in (1, 7, 10, 11, 17, 20):
        told = again(run_dir, step)
        assert saved(told) == seen[step], step
        assert told.equal
        assert len(told.compared) >= 6
        assert told.conditions == ()
        assert (told.folder / "carry.safetensors").exists() == use_carry
    assert len({seen[step] for step in seen}) == 20


def test_the_gradients_are_those_before_clipping(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir, {"training.clip_norm": 1e-3})
    told = again(run_dir, 18)
    assert told.equal
    whole = sum(norm**2 for norm in told.gradient_norms.values()) ** 0.5
    assert whole == pytest.approx(told.record["gradient_norm"], rel=1e-5)
    assert list(told.gradient_norms) == ["embed", "blocks.0.0", "head"]
    values = json.loads((told.folder / "state.json").read_text())
    assert values["gradient_norms"] == told.gradient_norms
    assert values["record"] == {name: values["recorded"][name] for name in values["record"]}


def test_a_layer_without_gradient_and_a_parameter_of_the_model_itself() -> None:
    model = torch.nn.Linear(2, 1)
    assert gradient_norms(model) == {"(model)": 0.0}
    model(torch.tensor([[3.0, 4.0]])).sum().backward()
    assert gradient_norms(model) == {"(model)": pytest.approx(26**0.5)}


def test_after_an_extension_each_step_has_the_learning_rate_it_had(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir)
    run_toy(run_dir, resume=True, extend_to=26)
    for folder in checkpoint.folders(run_dir / "checkpoints"):
        checkpoint.remove(folder)  # from step 0 on, through both stretches
    for step in (19, 25):
        assert again(run_dir, step).equal


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir)
    weights = run_dir / "checkpoints" / "step-00000016" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    assert again(run_dir, 18).equal


def test_a_step_that_failed_leaves_its_batch_and_gradients(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(RunFailedError):
        run_toy(run_dir, task_type=Exploding)
    told = again(run_dir, 6, Exploding)
    assert told.error is not None
    assert told.error.startswith("step 6 is not finite")
    assert told.recorded is None
    assert told.equal
    assert not torch.tensor(list(told.gradient_norms.values())).isfinite().all()
    assert json.loads((told.folder / "state.json").read_text())["gradient_norms"]["head"] is None
    with pytest.raises(RunFailedError, match="step 6 is not finite"):
        again(run_dir, 7, Exploding)


def test_a_step_that_cannot_be_taken_still_leaves_its_batch(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir)
    with pytest.raises(CrashError):
        again(run_dir, 3, crashing(3))
    assert (run_dir / "replays" / "step-00000003" / "batch.safetensors").exists()


def test_a_run_that_began_from_another_one(tmp_path: Path) -> None:
    run_toy(tmp_path / "mother")
    run_toy(tmp_path / "child", init_from=tmp_path / "mother")
    assert again(tmp_path / "child", 2).equal


def test_steps_and_data_that_are_not_the_runs_are_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir)
    for step in (0, 21):
        with pytest.raises(RefusedInputError, match=f"the steps 1 to 20, not {step}"):
            again(run_dir, step)
    RunManifest.load(run_dir).update(data_fingerprint="other")
    with pytest.raises(RunFailedError, match=r"data_fingerprint was 'other', now 'toy-60-0\.1'"):
        again(run_dir, 3)
    assert not (run_dir / "replays").exists()


def test_the_command(tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir, {"tracking.log_every_steps": 4})
    line = CommandLine(project, capsys)
    said = line.done("replay", run_dir, 8)
    assert "step-00000008" in said
    assert "differs" not in said
    assert "the run wrote no record" in line.done("replay", run_dir, 7)
    assert "invalid int value" in line.refused("replay", run_dir, "eight")


@pytest.mark.parametrize(("version", "code"), [(None, 1), ("1.0", 3)])
def test_a_record_that_differs(
    tmp_path: Path,
    project: Path,
    capsys: pytest.CaptureFixture[str],
    version: str | None,
    code: int,
) -> None:
    run_dir = tmp_path / "run"
    run_toy(run_dir)
    manifest = RunManifest.load(run_dir)
    if version:
        manifest.update(environment={**manifest.data["environment"], "torch": version})
    path = run_dir / "metrics.jsonl"
    path.write_text(path.read_text().replace('"loss": ', '"loss": 1'))
    assert main(["replay", str(run_dir), "8"]) == code
    said = capsys.readouterr()
    assert "differs" in said.out
    assert ("not comparable bit for bit: torch was '1.0'" in said.err) == (code == 3)


def test_a_failed_step_is_told_by_the_command(
    tmp_path: Path, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    with pytest.raises(RunFailedError):
        run_toy(run_dir, task_type=Exploding)
    kind = f"{Exploding.__module__}:{Exploding.__qualname__}"
    line = CommandLine(project, capsys, replace(TOY, tasks={"toy": kind}))
    said = line.done("replay", run_dir, 6)
    assert "the step failed: step 6 is not finite" in said
    assert "not finite" in said
