"""Checks of training: short runs of the smoke preset that must end with the same bits."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..config.fields import overlay
from ..data.loader import training_batches
from ..seeding import seed_globals
from ..training import checkpoint
from ..training.step import micro_batches, normalised
from ..training.task import StepKeys, Task
from .doctor import STEPS, Check, Examination, SkippedError, make_checks, require
from .model_checks import gradients_of, without_dropout
from .reproduce import hashes_at

_MIDDLE = STEPS // 2


def checks_of_training(exam: Examination) -> list[Check]:
    """The doctor's checks of training: short runs, resumed, killed or split, end as they must."""
    tests = "tests/engine/training"
    table = {
        "seeds": (_seeds, "tests/engine/test_seeding.py"),
        "intervals": (_intervals, f"{tests}/test_intervals.py"),
        "resume": (_resume, f"{tests}/test_resume.py"),
        "kill": (_kill, "`nox -s crash`"),
        "checkpoints": (_flip, f"{tests}/test_checkpoint.py"),
        "accumulation": (_accumulation, f"{tests}/test_step.py"),
        "GPU": (_gpu, "`doctor`"),
        "devices": (_devices, "`doctor`"),
    }
    return make_checks(exam, table)


def _same(exam: Examination, other: Path, how: str) -> None:
    one, two = hashes_at(exam.reference, STEPS), hashes_at(other, STEPS)
    unequal = [name for name in one if one[name] != two[name]]
    require(not unequal, f"{how}: {' and '.join(unequal)} differ after {STEPS} steps")


def _seeds(exam: Examination) -> str:
    _same(exam, exam.train("again"), "the same run twice")
    one = hashes_at(exam.reference, STEPS)
    other = exam.train("other seed", {"seed": exam.config.seed + 1})
    same = hashes_at(other, STEPS)["weights_sha256"] == one["weights_sha256"]
    require(not same, "another seed gives the same weights: nothing is keyed by it")
    return f"{STEPS} steps twice: the same hashes; another seed: others"


def _intervals(exam: Examination) -> str:
    rarely = {"evaluation.every_steps": STEPS, "checkpoint.every_steps": STEPS}
    run_dir = exam.train("rarely", rarely | {"tracking.log_every_steps": 5})
    _same(exam, run_dir, "evaluating, saving and logging less often")
    return "evaluation, checkpoint and logging intervals change no hash"


def _resume(exam: Examination) -> str:
    stopped = exam.train("resumed", stop_at=_MIDDLE + 1)
    exam.train("resumed", resume=True)
    _same(exam, stopped, f"stopped after step {_MIDDLE + 1} and resumed")
    return f"stopped after step {_MIDDLE + 1} and resumed: the same hashes"


def _kill(exam: Examination) -> str:
    run_dir = exam.folder / "killed"
    code = exam.launch(exam.config, run_dir, {"FAILPOINT": f"step:{_MIDDLE + 2}:SIGKILL"})
    require(code == -9, f"the process left with {code} and was to be killed by SIGKILL (-9)")
    code = exam.launch(exam.config, run_dir, {})
    require(code == 0, f"going on after the kill left with {code}")
    _same(exam, run_dir, f"killed in step {_MIDDLE + 2} and resumed")
    return f"SIGKILL in step {_MIDDLE + 2}, resumed by another process: the same hashes"


def _flip(exam: Examination) -> str:
    run_dir = exam.train("damaged", stop_at=_MIDDLE + 3)
    newest, older = reversed(checkpoint.folders(run_dir / "checkpoints")[-2:])
    weights = newest / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = checkpoint.newest(run_dir / "checkpoints")
    refused = found.refused.get(newest, "")
    require("model.safetensors" in refused, f"a flipped bit in {newest.name} was not noticed")
    exam.train("damaged", resume=True)
    _same(exam, run_dir, f"resumed from {older.name}, as {newest.name} is damaged")
    return "a flipped bit is refused by name, and the older checkpoint gives the same hashes"


def _accumulation(exam: Examination) -> str:
    if any(isinstance(module, _BatchNorm) for module in exam.task.build_model().modules()):
        return "the model normalises over the batch: its gradients depend on accumulation_steps"
    splits = 2 if exam.config.training.batch_size % 4 else 4
    one, many = (_gradients(exam, parts) for parts in (1, splits))
    require(bool(one), "no parameter has a gradient")
    worst = max(
        float((one[name] - many[name]).abs().max() / one[name].abs().max().clamp_min(1e-12))
        for name in one
    )
    require(worst <= 1e-5, f"1 x {splits} and {splits} x 1 differ by {worst:.1e} of the largest")
    return f"gradients of one batch and of {splits} micro-batches agree to {worst:.1e}"


def _gradients(exam: Examination, parts: int) -> dict[str, torch.Tensor]:
    """The doctor's gradients of training one step in `parts` micro-batches, by parameter."""
    config = overlay(exam.config, {"training.accumulation_steps": parts}, "doctor")
    task: Task[Any] = exam.task_type(config)
    seed_globals(config.seed, "init")
    model = without_dropout(task.build_model())
    (candidates,) = training_batches(
        exam.splits.train,
        batch_size=config.training.batch_size,
        seed=config.seed,
        first_step=1,
        last_step=1,
        workers=0,
    )
    batch, carry = task.begin(None, candidates)
    counts = task.counts(batch, carry)
    for micro, (rows, rows_carry) in enumerate(micro_batches(batch, carry, parts)):
        keys = StepKeys(seed=config.seed, step=1, micro=micro, rank=0)
        output = task.loss(model, rows, rows_carry, keys)
        terms = normalised(output.terms, counts, task.per_micro_batch, parts)
        torch.autograd.backward(list(terms.values()))
    return {name: gradient.double() for name, gradient in gradients_of(model).items()}


def _gpu(exam: Examination) -> str:
    if not torch.cuda.is_available():
        raise SkippedError("no GPU")
    runs = [exam.train(name, {"runtime.device": "cuda"}) for name in ("gpu one", "gpu two")]
    one, two = (hashes_at(run, STEPS) for run in runs)
    require(one == two, "two runs on the GPU have different hashes")
    return f"{STEPS} steps twice on {torch.cuda.get_device_name()}: the same hashes"


def _devices(exam: Examination) -> str:
    raise SkippedError("training runs on one device")
