"""What a model can get wrong, tried on the project's own as it is built: `doctor --model`."""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn

from ..training.optim import build_optimizer
from ..training.task import Task
from .causality import sees_the_future
from .items import FailedError, Item, require
from .model_batches import (
    Subject,
    constant_rate,
    outputs,
    rows_of,
    without_dropout,
)

PROOF = "`doctor --model`"
_MOST_STEPS = 300
_FITTED = 0.1
"""Share of its first loss below which a batch counts as fitted."""
_TOLERANCE = 1e-5
"""Of the largest number: what another order of float32 sums may change."""


def model_items(task: Task[Any]) -> list[Item]:
    """The checks of the task's model; causality is among them where the task claims it."""
    subject = Subject(task=task)
    checks: dict[str, Callable[[Subject], str]] = {
        "gradients": _gradients,
        "finite": _finite,
        "rows alone": _rows_alone,
        "overfit": _overfit,
        "eval mode": _eval_mode,
        "compiled": _compiled,
    }
    if task.causal:
        checks["causality"] = _causality
    return [_item(name, check, subject) for name, check in checks.items()]


def _item(name: str, check: Callable[[Subject], str], subject: Subject) -> Item:
    return Item(name=name, proof=PROOF, check=lambda: check(subject))


def _gradients(subject: Subject) -> str:
    """After two updates: a projection that starts at zero passes no gradient on at first."""
    model = subject.model().train()
    optimizer = build_optimizer(model, constant_rate(subject.config, 1e-3).training)
    reached: set[str] = set()
    carry = None
    for step in (1, 2, 3):
        optimizer.zero_grad(set_to_none=True)
        loss, carry = subject.loss(model, subject.candidates(step), carry, step)
        torch.autograd.backward(loss)
        reached |= {
            name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()
        }
        optimizer.step()
    wanted = [name for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name in wanted if name not in reached]
    require(not missing, f"no gradient reaches {', '.join(missing)}")
    return f"all {len(wanted)} parameters get a gradient within three steps"


def _finite(subject: Subject) -> str:
    model = subject.model().train()
    _require_finite("", model.state_dict().items())
    loss, _ = subject.loss(model, subject.candidates(1))
    first = float(loss.detach())
    require(math.isfinite(first), f"the first loss is {first}")
    torch.autograd.backward(loss)
    gradients = ((name, p.grad) for name, p in model.named_parameters() if p.grad is not None)
    _require_finite("the gradient of ", gradients)
    return f"parameters, first loss ({first:.4g}) and gradients are finite"


def _require_finite(what: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, tensor in tensors:
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FailedError(f"{what}{name} is not finite at the start")


def _rows_alone(subject: Subject) -> str:
    model, batch = subject.model(), subject.validation()
    count = len(next(iter(batch.values())))
    together = outputs(subject, model, batch)
    backwards = outputs(subject, model, rows_of(batch, list(reversed(range(count)))))
    require(bool(together[0]), "the predictions hold no number to compare")
    worst = 0.0
    for row in range(count):
        (alone,) = outputs(subject, model, rows_of(batch, [row]))
        for how, other in (("alone", alone), ("in another order", backwards[count - 1 - row])):
            apart = _apart(together[row], other)
            require(
                apart <= _TOLERANCE,
                f"row {row} {how} differs by {apart:.1e} from itself in a batch of {count}: "
                "the model mixes rows in eval mode",
            )
            worst = max(worst, apart)
    return f"{count} rows alone, in a batch and in another order: equal to {worst:.1e}"


def _apart(one: list[float], two: list[float]) -> float:
    """Largest difference, as a share of the largest number (of 1, if that is larger)."""
    if len(one) != len(two):
        return float("inf")
    scale = max(1.0, *map(abs, one))
    return max(abs(a - b) for a, b in zip(one, two, strict=True)) / scale


def _overfit(subject: Subject) -> str:
    tried = []
    for rate in (subject.config.training.learning_rate, 3e-3):
        first, last, steps = _fit_one_batch(subject, rate)
        if last <= _FITTED * first:
            return f"the loss of one batch falls from {first:.3g} to {last:.3g} in {steps} steps"
        tried.append(f"from {first:.3g} to {last:.3g} at learning rate {rate:.1g}")
    raise FailedError(
        f"one batch cannot be fitted: its loss only falls {' and '.join(tried)} in "
        f"{_MOST_STEPS} steps"
    )


def _fit_one_batch(subject: Subject, learning_rate: float) -> tuple[float, float, int]:
    """(first loss, lowest loss, steps) of fitting one batch without dropout."""
    model = without_dropout(subject.model())
    optimizer = build_optimizer(model, constant_rate(subject.config, learning_rate).training)
    candidates = subject.candidates(1)
    first = lowest = float("inf")
    for step in range(_MOST_STEPS + 1):
        optimizer.zero_grad(set_to_none=True)
        loss, _ = subject.loss(model, candidates)
        if not step:
            first = float(loss.detach())
        lowest = min(lowest, float(loss.detach()))
        if lowest <= _FITTED * first:
            return first, lowest, step
        torch.autograd.backward(loss)
        optimizer.step()
    return first, lowest, _MOST_STEPS


def _eval_mode(subject: Subject) -> str:
    model, batch = subject.model(), subject.validation()
    with torch.random.fork_rng(devices=[]):
        seen = []
        for state in (1, 2):
            torch.manual_seed(state)
            seen.append(outputs(subject, model, batch))
    require(seen[0] == seen[1], "two predictions of the same batch differ: is dropout left on?")
    return "two predictions of the same batch are equal bit by bit"


def _causality(subject: Subject) -> str:
    model = subject.model().eval()
    seen = sees_the_future(model, subject.task.example_input())
    require(seen is None, f"{seen}")
    return "no output depends on a later position, by value and by gradient"


def compiler() -> tuple[str, str]:
    """The backend that torch.compile can use here, and how to say so."""
    if any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        return "inductor", "compiled"
    return "aot_eager", "traced, as there is no C++ compiler here to compile it"


def _compiled(subject: Subject) -> str:
    backend, how = compiler()
    candidates = subject.candidates(1)
    plain = _loss_and_gradients(subject, candidates, lambda model: model)
    torch._dynamo.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own making
            again = _loss_and_gradients(
                subject,
                candidates,
                lambda model: torch.compile(model, backend=backend, dynamic=False),
            )
    finally:
        torch._dynamo.reset()
    worst = 0.0
    for name, one in plain.items():
        apart = float((one - again[name]).abs().max() / one.abs().max().clamp_min(1e-3))
        require(apart <= 1e-3, f"{how}, {name} differs by {apart:.1e} of its size")
        worst = max(worst, apart)
    return f"{how}: loss and gradients equal to {worst:.1e}"


def _loss_and_gradients(
    subject: Subject, candidates: dict[str, Tensor], change: Callable[[nn.Module], Any]
) -> dict[str, Tensor]:
    model = without_dropout(subject.model())
    loss, _ = subject.loss(change(model), candidates)
    torch.autograd.backward(loss)
    gradients = {
        f"the gradient of {name}": p.grad
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    return {"the loss": loss.detach(), **gradients}
