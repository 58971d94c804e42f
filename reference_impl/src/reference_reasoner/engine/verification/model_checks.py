"""What a model can get wrong, tried on the project's own as it is built: `doctor --model`."""

import math
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..data.dataset import Batch, Splits
from ..data.loader import evaluation_batches, training_batches
from ..profiling.model_inputs import map_tensors, tensors_in
from ..seeding import seed_globals, torch_generator
from ..training.optim import build_optimizer
from ..training.step import normalised
from ..training.task import Carry, StepKeys, Task
from .doctor import Check, FailedError, make_checks, require

_ROWS = 8
"""Examples in a batch of these checks."""
_MOST_STEPS = 300
_FITTED = 0.1
"""Share of its first loss below which a batch counts as fitted."""
_TOLERANCE = 1e-5
"""Of the largest number: what another order of float32 sums may change."""


@dataclass(kw_only=True)
class Subject:
    """The model that `doctor --model` checks: fresh copies of it and small batches, CPU, fp32."""

    task: Task[Any]

    @cached_property
    def splits(self) -> Splits:
        """The task's data."""
        return self.task.datasets()

    def model(self) -> nn.Module:
        """The untrained model that `doctor --model` checks, as a run starts with it."""
        seed_globals(self.task.config.seed, "init")
        return self.task.build_model()

    def candidates(self, step: int) -> Batch:
        """A few examples as training draws them at `step`, to check a model on."""
        (batch,) = training_batches(
            self.splits.train,
            batch_size=min(_ROWS, self.task.config.training.batch_size),
            seed=self.task.config.seed,
            first_step=step,
            last_step=step,
            workers=0,
        )
        return batch

    def loss(
        self, model: nn.Module, candidates: Batch, carry: Carry | None = None, step: int = 1
    ) -> tuple[Tensor, Carry | None]:
        """The loss of one training step of a checked model, as the loop computes it; next carry."""
        batch, carry = self.task.begin(carry, candidates)
        counts = self.task.counts(batch, carry)
        keys = StepKeys(seed=self.task.config.seed, step=step, micro=0, rank=0)
        seed_globals(keys.dropout_seed())
        output = self.task.loss(model, batch, carry, keys)
        terms = normalised(output.terms, counts, self.task.per_micro_batch, 1)
        return torch.stack(list(terms.values())).sum(), output.carry

    def optimizer(self, model: nn.Module, rate: float) -> torch.optim.Optimizer:
        """The optimizer of a checked model, at one learning rate and without weight decay."""
        training = replace(self.task.config.training, learning_rate=rate, weight_decay=0.0)
        return build_optimizer(model, training)

    def outputs(self, model: nn.Module, rows: list[int] | None = None) -> list[list[float]]:
        """The numbers that a checked model predicts in eval mode for `rows` of a few examples."""
        batch = next(iter(evaluation_batches(self.splits.validation, _ROWS)))
        if rows is not None:
            batch = {name: value[rows] for name, value in batch.items()}
        with torch.no_grad():
            predicted = self.task.predict(model.eval(), batch)
        return [numbers_in(row.output) for row in predicted]


def without_dropout(model: nn.Module) -> nn.Module:
    """Set a checked model to training mode, but its dropout to eval mode; return it."""
    for module in model.train().modules():
        if isinstance(module, _DropoutNd):
            module.eval()
    return model


def numbers_in(value: Any) -> list[float]:
    """Every number in the lists and mappings of a model's output that a check compares."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for each in value for number in numbers_in(each)]
    return [float(value)] if isinstance(value, bool | int | float) else []


def checks_of_model(task: Task[Any]) -> list[Check]:
    """The checks that `doctor --model` makes of a task's model; causality where it claims it."""
    looks: dict[str, Callable[[Subject], str]] = {
        "gradients": _gradients,
        "finite": _finite,
        "rows alone": _rows_alone,
        "overfit": _overfit,
        "eval mode": _eval_mode,
        "compiled": _compiled,
    }
    if task.causal:
        looks["causality"] = _causality
    table = {name: (look, "`doctor --model`") for name, look in looks.items()}
    return make_checks(Subject(task=task), table)


def _gradients(subject: Subject) -> str:
    model = subject.model().train()
    optimizer = subject.optimizer(model, 1e-3)
    reached: set[str] = set()
    carry = None
    for step in (1, 2, 3):  # a projection that starts at zero passes no gradient on at first
        optimizer.zero_grad(set_to_none=True)
        loss, carry = subject.loss(model, subject.candidates(step), carry, step)
        torch.autograd.backward(loss)
        reached |= {name for name, gradient in gradients_of(model).items() if gradient.any()}
        optimizer.step()
    wanted = [name for name, p in model.named_parameters() if p.requires_grad]
    missing = [name for name in wanted if name not in reached]
    require(not missing, f"no gradient reaches {', '.join(missing)}")
    return f"all {len(wanted)} parameters get a gradient within three steps"


def _finite(subject: Subject) -> str:
    model = subject.model().train()
    _require_finite("", model.state_dict())
    loss, _ = subject.loss(model, subject.candidates(1))
    first = float(loss.detach())
    require(math.isfinite(first), f"the first loss is {first}")
    torch.autograd.backward(loss)
    _require_finite("the gradient of ", gradients_of(model))
    return f"parameters, first loss ({first:.4g}) and gradients are finite"


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """{parameter: gradient} of a checked model, for the parameters that have one."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _require_finite(what: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FailedError(f"{what}{name} is not finite at the start")


def _rows_alone(subject: Subject) -> str:
    model = subject.model()
    count = min(_ROWS, len(subject.splits.validation))
    together = subject.outputs(model)
    backwards = subject.outputs(model, list(reversed(range(count))))
    require(bool(together[0]), "the predictions hold no number to compare")
    worst = 0.0
    for row in range(count):
        (alone,) = subject.outputs(model, [row])
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
    """The largest difference of two outputs of a checked model, relative to the largest number."""
    if len(one) != len(two):
        return float("inf")
    scale = max(1.0, *map(abs, one))
    return max(abs(a - b) for a, b in zip(one, two, strict=True)) / scale


def _overfit(subject: Subject) -> str:
    tried = []
    for rate in (subject.task.config.training.learning_rate, 3e-3):
        losses = _fit_one_batch(subject, rate)
        fall = f"from {losses[0]:.3g} to {min(losses):.3g}"
        if losses[-1] <= _FITTED * losses[0]:
            return f"the loss of one batch falls {fall} in {len(losses) - 1} steps"
        tried.append(f"{fall} at learning rate {rate:.1g}")
    raise FailedError(
        f"one batch cannot be fitted: its loss only falls {' and '.join(tried)} in "
        f"{_MOST_STEPS} steps"
    )


def _fit_one_batch(subject: Subject, learning_rate: float) -> list[float]:
    """Fit a checked model to one batch without dropout; the loss before each step and the last."""
    model = without_dropout(subject.model())
    optimizer = subject.optimizer(model, learning_rate)
    candidates = subject.candidates(1)
    losses: list[float] = []
    for _ in range(_MOST_STEPS + 1):
        optimizer.zero_grad(set_to_none=True)
        loss, _ = subject.loss(model, candidates)
        losses.append(float(loss.detach()))
        if losses[-1] <= _FITTED * losses[0]:
            break
        torch.autograd.backward(loss)
        optimizer.step()
    return losses


def _eval_mode(subject: Subject) -> str:
    model = subject.model()
    with torch.random.fork_rng(devices=[]):
        seen = []
        for state in (1, 2):
            torch.manual_seed(state)
            seen.append(subject.outputs(model))
    require(seen[0] == seen[1], "two predictions of the same batch differ: is dropout left on?")
    return "two predictions of the same batch are equal bit by bit"


def _causality(subject: Subject) -> str:
    seen = sees_the_future(subject.model().eval(), subject.task.example_input())
    require(seen is None, f"{seen}")
    return "no output depends on a later position, by value and by gradient"


def compiler() -> tuple[str, str]:
    """The backend that torch.compile can use to check a model here, and how to say so."""
    if any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        return "inductor", "compiled"
    return "aot_eager", "traced, as there is no C++ compiler here to compile it"


def _compiled(subject: Subject) -> str:
    backend, how = compiler()
    plain = _loss_and_gradients(subject, lambda model: model)
    torch.compiler.reset()
    try:
        with warnings.catch_warnings(action="ignore"):  # of torch's own making
            compiled = partial(torch.compile, backend=backend, dynamic=False)
            again = _loss_and_gradients(subject, compiled)
    finally:
        torch.compiler.reset()
    worst = 0.0
    for name, one in plain.items():
        apart = float((one - again[name]).abs().max() / one.abs().max().clamp_min(1e-3))
        require(apart <= 1e-3, f"{how}, {name} differs by {apart:.1e} of its size")
        worst = max(worst, apart)
    return f"{how}: loss and gradients equal to {worst:.1e}"


def _loss_and_gradients(subject: Subject, change: Callable[[nn.Module], Any]) -> dict[str, Tensor]:
    model = without_dropout(subject.model())
    loss, _ = subject.loss(change(model), subject.candidates(1))
    torch.autograd.backward(loss)
    gradients = {f"the gradient of {k}": gradient for k, gradient in gradients_of(model).items()}
    return {"the loss": loss.detach(), **gradients}


def sees_the_future(model: nn.Module, arguments: tuple[Any, ...]) -> str | None:
    """How an output of a checked model depends on later positions of its input; None if none does.

    Raises FailedError where inputs and outputs have no common dimension 1 of two or more.
    """
    length = max((t.shape[1] for t in tensors_in(arguments) if t.ndim > 1), default=0)
    none = "example_input() has no second dimension of two or more positions: give it one"
    require(length > 1, none)
    generator = torch_generator(0, "causality")
    first = _redrawn(arguments, -1, length, generator)
    for position in range(length - 1):
        other = _redrawn(first, position, length, generator)
        found = _by_value(model, first, other, position, length)
        if found is not None:
            return found
    return _by_gradient(model, first, length)


def _redrawn(arguments: Any, position: int, length: int, generator: torch.Generator) -> Any:
    """A checked model's inputs with noise at all positions after `position`."""

    def change(tensor: Tensor) -> Tensor:
        if tensor.shape[1:2] != (length,) or tensor.dtype == torch.bool:
            return tensor
        mask = (torch.arange(length) > position).view(1, length, *[1] * (tensor.ndim - 2))
        return torch.where(mask, _noise(tensor, generator), tensor)

    return map_tensors(arguments, change)


def _noise(tensor: Tensor, generator: torch.Generator) -> Tensor:
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
    highest = max(1, int(tensor.max()))  # the range seen, for only the task knows more
    return torch.randint(0, highest + 1, tensor.shape, generator=generator).to(tensor.dtype)


def _sequences(value: Any, length: int) -> list[Tensor]:
    floats = (tensor for tensor in tensors_in(value) if tensor.is_floating_point())
    return [tensor for tensor in floats if tensor.shape[1:2] == (length,)]


def _outputs(model: nn.Module, arguments: Any, length: int) -> list[Tensor]:
    found = _sequences(model(*arguments), length)
    require(bool(found), f"no output has {length} positions in its second dimension")
    return found


def _by_value(model: nn.Module, first: Any, other: Any, position: int, length: int) -> str | None:
    with torch.no_grad():
        one, two = (_outputs(model, given, length) for given in (first, other))
    for before, after in zip(one, two, strict=True):
        apart = (before - after).abs()[:, : position + 1]
        if apart.max() > _TOLERANCE * before.abs().max().clamp_min(1):
            where = int(apart.reshape(*apart.shape[:2], -1).amax((0, 2)).argmax())
            return (
                f"the output at position {where} changes by {float(apart.max()):.1e} with inputs "
                f"after position {position}: it sees the future"
            )
    return None


def _by_gradient(model: nn.Module, first: Any, length: int) -> str | None:
    floats = _sequences(first, length)
    if not floats:
        return None
    for tensor in floats:
        tensor.requires_grad_(True)
    middle = length // 2
    total = torch.stack([t[:, :middle].sum() for t in _outputs(model, first, length)]).sum()
    for gradient in torch.autograd.grad(total, floats, allow_unused=True):
        if gradient is not None and gradient[:, middle:].any():
            return (
                f"outputs before position {middle} have a gradient into later inputs: they see "
                "the future"
            )
    return None
