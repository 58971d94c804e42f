"""Items about training: short runs of the smoke preset that must end with the same bits."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ..config.fields import overlay
from ..data.loader import training_batches
from ..seeding import seed_globals
from ..training import checkpoint
from ..training.step import micro_batches, normalised
from ..training.task import StepKeys, Task
from .examination import STEPS, Examination, hashes
from .items import Item, SkippedError, require

_MIDDLE = STEPS // 2
_PROOF = "tests/training"


def training_items(exam: Examination) -> list[Item]:
    """The items about training."""
    return [
        Item(name="seeds", proof="tests/test_seeding.py", check=lambda: _seeds(exam)),
        Item(name="intervals", proof=f"{_PROOF}/test_intervals.py", check=lambda: _intervals(exam)),
        Item(name="resume", proof=f"{_PROOF}/test_resume.py", check=lambda: _resume(exam)),
        Item(name="kill", proof="`nox -s crash`", check=lambda: _kill(exam)),
        Item(name="checkpoints", proof=f"{_PROOF}/test_checkpoint.py", check=lambda: _flip(exam)),
        Item(
            name="accumulation", proof=f"{_PROOF}/test_step.py", check=lambda: _accumulation(exam)
        ),
        Item(name="GPU", proof="`doctor`", check=lambda: _gpu(exam)),
        Item(name="devices", proof="`doctor`", check=_devices),
    ]


def _same(exam: Examination, other: Path, how: str) -> None:
    one, two = hashes(exam.reference), hashes(other)
    unequal = [name for name in one if one[name] != two[name]]
    require(not unequal, f"{how}: {' and '.join(unequal)} differ after {STEPS} steps")


def _seeds(exam: Examination) -> str:
    _same(exam, exam.train("again"), "the same run twice")
    other = exam.train("other seed", {"seed": exam.config.seed + 1})
    same = hashes(other)["weights_sha256"] == hashes(exam.reference)["weights_sha256"]
    require(not same, "another seed gives the same weights: nothing is keyed by it")
    return f"{STEPS} steps twice: the same hashes; another seed: others"


def _intervals(exam: Examination) -> str:
    rarely = {
        "evaluation.every_steps": STEPS,
        "checkpoint.every_steps": STEPS,
        "tracking.log_every_steps": 5,
    }
    _same(exam, exam.train("rarely", rarely), "evaluating, saving and logging less often")
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
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
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
    """{parameter: gradient} of the first step in `parts` micro-batches, float64, no dropout."""
    config = overlay(exam.config, {"training.accumulation_steps": parts}, "doctor")
    task: Task[Any] = exam.task_type(config)
    seed_globals(config.seed, "init")
    model = task.build_model()
    _without_dropout(model)
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
    return {
        name: parameter.grad.double()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _without_dropout(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.eval()


def _gpu(exam: Examination) -> str:
    if not torch.cuda.is_available():
        raise SkippedError("no GPU")
    runs = [exam.train(name, {"runtime.device": "cuda"}) for name in ("gpu one", "gpu two")]
    require(hashes(runs[0]) == hashes(runs[1]), "two runs on the GPU have different hashes")
    return f"{STEPS} steps twice on {torch.cuda.get_device_name()}: the same hashes"


def _devices() -> str:
    raise SkippedError("training runs on one device")
