"""One optimizer step.

candidates -> begin -> counts -> micro-batches (loss, backward) -> clip -> guard -> optimizer
-> EMA -> carry
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..config.run_config import RunConfig
from ..data.dataset import Batch
from ..seeding import seed_globals
from . import failpoints
from .device import autocast
from .optim import learning_rate, set_learning_rate
from .parallel import Ranks
from .state import TrainingState
from .task import Carry, LossOutput, StepKeys, Task


@dataclass(kw_only=True)
class Gathered:
    """What the micro-batches of one step have given so far."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, float | Tensor] = field(default_factory=dict)
    carries: list[Carry] = field(default_factory=list)

    def add(self, terms: Mapping[str, Tensor], output: LossOutput, micro_batches: int) -> None:
        """Add one micro-batch: its normalised terms, its share of the metrics, its carry."""
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value.detach()
        for name, metric in output.metrics.items():
            self.metrics[name] = self.metrics.get(name, 0.0) + metric / micro_batches
        if output.carry is not None:
            self.carries.append(output.carry)

    def carry(self) -> Carry | None:
        """The next step's carry in global order."""
        if not self.carries:
            return None
        return {k: torch.cat([part[k] for part in self.carries]) for k in self.carries[0]}


def train_step(
    task: Task[Any],
    model: nn.Module,
    state: TrainingState,
    candidates: Batch,
    *,
    config: RunConfig,
    ranks: Ranks,
    poll: Callable[[], None],
    phase: Callable[[str], None] = lambda name: None,
) -> dict[str, float]:
    """Take one step on `candidates` and return what to record of it.

    `model` is what computes the loss: `state.model`, or its compiled form. Until the
    optimizer moves nothing of `state` has changed, so `poll` may leave between micro-batches.
    `phase` is told when `forward`, `backward` and `optimizer` begin, for a profiler's clock.
    Raises RunFailedError where the guard refuses the numbers.
    """
    training = config.training
    step = state.step + 1
    batch, carry = task.begin(state.carry, candidates)
    counts = task.counts(batch, carry)
    state.optimizer.zero_grad(set_to_none=True)
    gathered = Gathered()
    parts = list(micro_batches(batch, carry, training.accumulation_steps))
    model.train()
    for micro, (rows, rows_carry) in enumerate(parts):
        poll()
        keys = StepKeys(seed=config.seed, step=step, micro=micro, rank=ranks.rank)
        seed_globals(keys.dropout_seed())
        phase("forward")
        with autocast(next(iter(rows.values())).device, training):
            output = task.loss(model, rows, rows_carry, keys)
        terms = normalised(output.terms, counts, task.per_micro_batch, len(parts))
        phase("backward")
        _backward(terms, state)
        gathered.add(terms, output, len(parts))
    phase("optimizer")
    failpoints.hit("step")
    losses = {f"loss/{name}": float(value) for name, value in gathered.terms.items()}
    metrics = {name: float(value) for name, value in gathered.metrics.items()}
    record = {"loss": sum(losses.values()), **losses, **metrics}
    rate = learning_rate(step, training)
    examples = batch["example_id"].tolist() if "example_id" in batch else []
    applied = _update(state, record, examples, rate, config)
    if applied:
        if state.ema is not None:
            state.ema.update(state.model)
        state.carry = gathered.carry()
    state.step = step
    return {**record, "learning_rate": rate}


def micro_batches(
    batch: Batch, carry: Carry | None, parts: int
) -> Iterator[tuple[Batch, Carry | None]]:
    """Split batch and carry into at most `parts` runs of rows, as even as they can be."""
    rows = len(next(iter(batch.values())))
    bounds = [rows * part // parts for part in range(parts + 1)]
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            piece = {name: value[start:stop] for name, value in batch.items()}
            yield piece, carry and {name: value[start:stop] for name, value in carry.items()}


def normalised(
    terms: Mapping[str, Tensor],
    counts: Mapping[str, int],
    per_micro_batch: frozenset[str],
    parts: int,
) -> dict[str, Tensor]:
    """Divide each sum by its count over the whole global batch, which makes parts add up.

    A term whose count is 0 contributes nothing; one that is no sum over rows is averaged over
    the micro-batches. Raises ValueError for a term without a count.
    """
    divided: dict[str, Tensor] = {}
    for name, value in terms.items():
        if name in per_micro_batch:
            divided[name] = value / parts
        elif name not in counts:
            raise ValueError(
                f"the loss term {name!r} has no count: counts() gave {sorted(counts)}; count it "
                "there, or name it in per_micro_batch"
            )
        elif counts[name]:
            divided[name] = value / counts[name]
    return divided


def _backward(terms: Mapping[str, Tensor], state: TrainingState) -> None:
    if not terms:
        return
    loss = torch.stack(list(terms.values())).sum()
    scaled: Any = loss if state.scaler is None else state.scaler.scale(loss)
    scaled.backward()


def _update(
    state: TrainingState,
    record: dict[str, float],
    examples: list[int],
    rate: float,
    config: RunConfig,
) -> bool:
    """Update the weights after a step's gradients: clip, ask the guard; whether they moved."""
    training = config.training
    parameters = [p for p in state.model.parameters() if p.grad is not None]
    scaler = state.scaler if parameters else None
    if scaler is not None:
        scaler.unscale_(state.optimizer)
    limit = training.clip_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit)) if parameters else 0.0
    record["gradient_norm"] = norm
    finite = math.isfinite(record["loss"]) and math.isfinite(norm)
    numbers = {k: v for k, v in record.items() if k.startswith("loss") or k == "gradient_norm"}
    applied = state.guard.allows_update(state.step + 1, numbers, finite, examples, training)
    set_learning_rate(state.optimizer, rate)
    if applied:
        (state.optimizer.step if scaler is None else lambda: scaler.step(state.optimizer))()
    if scaler is not None:
        scaler.update()
    return applied
