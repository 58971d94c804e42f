"""Each saved entry is needed: a resume that keeps the fresh value instead is found out."""

from pathlib import Path
from typing import Any

import pytest
import torch

from reference_reasoner.engine.errors import RunFailedError
from reference_reasoner.engine.training import state
from reference_reasoner.engine.training.task import Carry, LossOutput, StepKeys

from ..toy.runs import VARIANTS, CrashError, crashing_at, outcome, run_toy
from ..toy.task import ToyTask

PATIENT = {**VARIANTS["early stopping"], "training.learning_rate": 0.05}
CONFIGS: dict[str, dict[str, Any]] = {
    "model": {},
    "optimizer": {},
    "ema": VARIANTS["ema"],
    "scaler": VARIANTS["fp16 scaler"],
    "carry": {},
    "step": {},
    "best": PATIENT,
    "guard": {"training.on_non_finite": "skip"},
    "early_stopping": PATIENT,
}


def nan_at(step: int, crash_at: int) -> type[ToyTask]:
    """A task with one step that is not finite, and perhaps a crash after it."""

    class NanTask(crashing_at(crash_at)):  # type: ignore[misc]
        def loss(self, model: Any, batch: Any, carry: Carry | None, keys: StepKeys) -> LossOutput:
            out: LossOutput = super().loss(model, batch, carry, keys)
            if keys.step != step:
                return out
            terms = {name: value * torch.nan for name, value in out.terms.items()}
            return LossOutput(terms=terms, metrics=out.metrics, carry=out.carry)

    return NanTask


def crash_step(name: str) -> int:
    """Late enough that the entry holds something by then."""
    return 13 if CONFIGS[name] is PATIENT else 10


def crashing_task(entry: str) -> type[ToyTask]:
    step = crash_step(entry)
    return nan_at(3, step) if entry == "guard" else crashing_at(step)


def outcome_without(run_dir: Path, entry: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Crash, resume without restoring `entry`, and return what came of it, or the error."""
    config = CONFIGS[entry]
    with pytest.raises(CrashError):
        run_toy(run_dir, config, task_type=crashing_task(entry))
    monkeypatch.delitem(state.RESTORERS, entry)
    try:
        run_toy(run_dir, config, resume=True)
    except (RunFailedError, RuntimeError) as error:
        return str(error)
    return outcome(run_dir)


def test_the_list_is_whole() -> None:
    assert set(CONFIGS) == set(state.RESTORERS)


@pytest.mark.parametrize("entry", CONFIGS)
def test_a_resume_without_this_entry_is_found_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    whole_task = nan_at(3, 0) if entry == "guard" else ToyTask
    run_toy(project / "whole", CONFIGS[entry], task_type=whole_task)
    parts = outcome_without(project / "parts", entry, monkeypatch)
    assert parts != outcome(project / "whole")


@pytest.mark.parametrize("entry", CONFIGS)
def test_and_with_all_of_them_nothing_is(project: Path, entry: str) -> None:
    """The control of the control: the difference is due to the entry, not to the set-up."""
    config = CONFIGS[entry]
    whole_task = nan_at(3, 0) if entry == "guard" else ToyTask
    run_toy(project / "whole", config, task_type=whole_task)
    with pytest.raises(CrashError):
        run_toy(project / "parts", config, task_type=crashing_task(entry))
    run_toy(project / "parts", config, resume=True)
    assert outcome(project / "parts") == outcome(project / "whole")
