"""How a call of train ends, and what it leaves."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.errors import RefusedInputError, RunFailedError
from reference_reasoner.engine.training import checkpoint, loop, session
from reference_reasoner.engine.training.task import Carry, LossOutput, Row, StepKeys

from ..toy.runs import VARIANTS, facts, records, run_toy
from ..toy.task import ToyTask


def failing_with(error: Exception) -> type[ToyTask]:
    class FailingTask(ToyTask):
        def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
            if keys.step == 3:
                raise error
            return super().loss(model, batch, carry, keys)

    return FailingTask


def test_a_finished_run_says_everything(project: Path) -> None:
    assert run_toy(project / "run", argv=("train", "--preset", "toy")) == 0
    said = facts(project / "run")
    assert (said["status"], said["stop_reason"], said["stop_step"]) == ("finished", "steps", 20)
    assert (said["task"], said["preset"], said["parameters"]) == ("toy", "toy", 164)
    assert said["argv"] == ["train", "--preset", "toy"]
    assert said["final_metrics"]["raw/accuracy"] == records(project / "run")[-1]["raw/accuracy"]
    assert said["best"]["metric"] == "accuracy"
    assert len(said["weights_sha256"]) == len(said["state_sha256"]) == 64
    names = {p.name for p in (project / "run").iterdir() if not p.name.startswith(".")}
    assert names == {"run.json", "config.toml", "metrics.jsonl", "checkpoints", "best"}


def test_it_evaluates_and_saves_before_the_first_step(project: Path) -> None:
    run_toy(project / "run", {"training.steps": 1, "checkpoint.keep": 9})
    steps = [f.name for f in checkpoint.folders(project / "run" / "checkpoints")]
    assert steps == ["step-00000000", "step-00000001"]
    assert [(r["kind"], r["step"]) for r in records(project / "run")] == [
        ("evaluation", 0),
        ("train", 1),
        ("evaluation", 1),
    ]


def test_early_stopping_is_finished_and_keeps_the_best(project: Path) -> None:
    run_toy(project / "run", VARIANTS["early stopping"])
    said = facts(project / "run")
    assert (said["status"], said["stop_reason"]) == ("finished", "early_stopping")
    assert said["stop_step"] == said["best"]["step"] + 3 * 2 < 60
    selected = {r["step"]: r["selected"] for r in records(project / "run") if "selected" in r}
    assert said["best"]["value"] == max(selected.values())
    assert run_toy(project / "run", VARIANTS["early stopping"], resume=True) == 0


def test_a_metric_to_minimise_is_minimised(project: Path) -> None:
    class Minimising(ToyTask):
        primary_metric = "error"
        direction = "min"

        def scores(self, rows: Any) -> dict[str, float]:
            return {"error": 1 - super().scores(rows)["accuracy"]}

    run_toy(project / "run", task_type=Minimising)
    values = [r["raw/error"] for r in records(project / "run") if r["kind"] == "evaluation"]
    assert facts(project / "run")["best"]["value"] == min(values) < values[0]


def test_ema_decides_what_is_best_and_is_what_is_saved(project: Path) -> None:
    run_toy(project / "run", {**VARIANTS["ema"], "checkpoint.every_steps": 5, "checkpoint.keep": 9})
    best = facts(project / "run")["best"]
    assert best["weights"] == "ema"
    by_step = {r["step"]: r for r in records(project / "run") if r["kind"] == "evaluation"}
    assert best["value"] == by_step[best["step"]]["ema/accuracy"]
    saved, _ = checkpoint.load_weights(project / "run", "best")
    folder = checkpoint.folder_of(project / "run" / "checkpoints", best["step"])
    at_that_step = checkpoint.load(folder).groups
    torch.testing.assert_close(dict(at_that_step["ema"]), saved, rtol=0, atol=0)
    assert not torch.equal(at_that_step["model"]["head.weight"], saved["head.weight"])


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_names_step_and_batch(project: Path, error: Exception) -> None:
    with pytest.raises(RunFailedError, match=r"out of memory at step 3 .*point \(12, 6\)"):
        run_toy(project / "run", task_type=failing_with(error))
    said = facts(project / "run")
    assert said["status"] == "failed"
    assert "raise training.accumulation_steps" in said["error"]


def test_a_bug_shows_itself_and_the_run_is_failed(project: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run_toy(project / "run", task_type=failing_with(RuntimeError("a bug")))
    assert facts(project / "run")["error"] == "RuntimeError('a bug')"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("no compiler\nmore", "no compiler"),
        ("inductor raised:\n\nno compiler\nmore", "inductor raised: no compiler"),
    ],
)
def test_a_failed_compilation_names_the_way_out(project: Path, said: str, told: str) -> None:
    kind = type("InductorError", (RuntimeError,), {"__module__": "torch._inductor.exc"})
    with pytest.raises(RunFailedError, match=rf"compile failed at step 3: {told}; run with"):
        run_toy(project / "run", task_type=failing_with(kind(said)))


def test_a_score_that_is_not_finite_ends_the_run(project: Path) -> None:
    class NanScores(ToyTask):
        def scores(self, rows: list[Row]) -> dict[str, float]:  # type: ignore[override]
            return {"accuracy": float("nan")}

    with pytest.raises(RunFailedError, match="the score accuracy is nan on the validation split"):
        run_toy(project / "run", task_type=NanScores)
    assert "the data is finite, so look at the model" in facts(project / "run")["error"]


def test_a_number_in_the_data_that_is_not_finite_is_named(project: Path) -> None:
    class NanData(ToyTask):
        def datasets(self) -> Any:
            splits = super().datasets()
            splits.validation.points[4, 1] = float("nan")  # type: ignore[attr-defined]
            return splits

        def scores(self, rows: Any) -> dict[str, float]:
            return {"accuracy": float("nan")}

    with pytest.raises(RunFailedError, match="`point` of example 4 holds nan") as caught:
        run_toy(project / "run", task_type=NanData)
    assert "learning_rate" not in str(caught.value)


def test_the_task_is_checked_before_anything_is_written(project: Path) -> None:
    class Unreadable(ToyTask):
        def datasets(self) -> Any:
            raise RefusedInputError("points.csv cannot be read")

    with pytest.raises(RefusedInputError, match="cannot be read"):
        run_toy(project / "run", task_type=Unreadable)
    assert not (project / "run").exists()


@pytest.mark.parametrize("place", ["checkpoint", "run.json", "metrics.jsonl"])
def test_a_full_disk_is_said_and_keeps_what_was_saved(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    class FullAtStepThree(ToyTask):
        def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
            if keys.step == 3:
                _fill(monkeypatch, place)
            return super().loss(model, batch, carry, keys)

    with pytest.raises(RunFailedError, match="the disk is full"):
        run_toy(project / "run", task_type=FullAtStepThree)
    monkeypatch.undo()
    os.chdir(project)
    found = checkpoint.newest(project / "run" / "checkpoints")
    assert found.snapshot is not None
    assert not found.refused
    assert run_toy(project / "run", resume=True) == 0


def _fill(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), place)

    if place == "checkpoint":
        monkeypatch.setattr(checkpoint.os, "fsync", full)
    elif place == "run.json":
        monkeypatch.setattr(session.RunManifest, "update", full)
    else:
        monkeypatch.setattr(loop, "_record", full)


def test_activation_checkpointing_changes_no_bit(project: Path) -> None:
    run_toy(project / "a")
    run_toy(project / "b", {"training.activation_checkpointing": True})
    assert facts(project / "a")["weights_sha256"] == facts(project / "b")["weights_sha256"]


def test_bf16_trains(project: Path) -> None:
    run_toy(project / "run", {"training.precision": "bf16"})
    scores = [r["raw/accuracy"] for r in records(project / "run") if r["kind"] == "evaluation"]
    assert scores[-1] > scores[0] + 0.2


def test_other_weights_are_taken_where_they_fit(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_toy(project / "first")
    capsys.readouterr()
    run_toy(project / "same", init_from=project / "first")
    assert "took 6 of 6 tensors from step" in capsys.readouterr().err
    scores = [r["raw/accuracy"] for r in records(project / "same") if r["kind"] == "evaluation"]
    assert scores[0] == facts(project / "first")["best"]["value"]
    assert facts(project / "same")["initialised_from"] == str(project / "first")

    class WiderHead(ToyTask):
        def build_model(self) -> Any:
            model = super().build_model()
            model.head = torch.nn.Linear(8, 7)
            model.extra = torch.nn.Linear(1, 1)
            del model.embed.bias
            model.embed.register_parameter("bias", None)
            return model

        def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
            out = super().loss(model, batch, carry, keys)
            return LossOutput(terms=out.terms, carry=out.carry)

        def predict(self, model: Any, batch: Any) -> list[Row]:
            first = lambda p, z: (model(p, z)[0], model(p, z)[1][:, :3], None)  # noqa: E731
            return super().predict(first, batch)  # type: ignore[arg-type]

    run_toy(
        project / "wide", {"training.steps": 1}, task_type=WiderHead, init_from=project / "same"
    )
    said = capsys.readouterr().err
    assert "head.weight is (4, 8) there and (7, 8) here: kept fresh" in said
    assert "extra.bias is not in that run and keeps its fresh values" in said
    assert "embed.bias is not in this model and was left out" in said


def test_weights_that_fit_nowhere_are_refused(project: Path) -> None:
    run_toy(project / "first", {"training.steps": 1})
    with pytest.raises(RefusedInputError, match="not one of its 6 tensors fits"):
        run_toy(
            project / "other",
            init_from=project / "first",
            task_type=type("Plain", (ToyTask,), {"build_model": lambda self: torch.nn.ReLU()}),
        )
    with pytest.raises(RefusedInputError, match=r"--init-from .*: .*has no good checkpoint"):
        run_toy(project / "other", init_from=project / "nothing")
    assert not (project / "other").exists()


def test_a_resume_may_repeat_its_init_from_and_no_other(project: Path) -> None:
    run_toy(project / "first", {"training.steps": 1})
    run_toy(project / "run", init_from=project / "first")
    assert run_toy(project / "run", init_from=project / "first", resume=True) == 0
    with pytest.raises(RefusedInputError, match=r"began from .*first: leave it out"):
        run_toy(project / "run", init_from=project / "run", resume=True)


def test_the_best_of_the_oldest_kept_checkpoint_stays(project: Path) -> None:
    run_toy(project / "run", {"evaluation.every_steps": 1, "checkpoint.every_steps": 3})
    checkpoints = checkpoint.folders(project / "run" / "checkpoints")
    assert len(checkpoints) == 2
    kept = {checkpoint.step_of(f) for f in checkpoint.folders(project / "run" / "best")}
    for folder in checkpoints:
        assert checkpoint.load(folder).values["best"]["step"] in kept
