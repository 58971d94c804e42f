"""Halting: how many supervision steps an example gets (TRM, figure 3).

B batch, T tokens, W width. The head is a classifier of "my answer is right now"; it is trained
on exactly that and never on the number of steps, so it cannot trade accuracy for time. It must
see the whole state, so a causal model uses it in training only: it has seen the future.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

StateT = TypeVar("StateT")
THRESHOLDS = (*(number / 20 for number in range(1, 20)), 0.96, 0.97, 0.98, 0.99)
"""What a tuned threshold may be; finer where a head that is sure of most rows tells them apart."""
Compaction = Literal["exact", "powers_of_two", "none"]
"""How many rows go on: those that are left, as many as the next power of two, or all."""


@dataclass(frozen=True, kw_only=True)
class HaltingConfig:
    """When an example may stop."""

    max_steps: int = 16
    """Supervision steps after which every example stops."""
    exploration: float = 0.1
    """Share of examples that must take a random number of steps in training."""
    pool: Literal["mean_min", "first"] = "mean_min"
    """What the head reads: mean and minimum over the tokens, or the first prefix token (TRM)."""
    threshold: float = 0.5
    """Probability of being right above which an example stops in evaluation."""
    initial_bias: float = -3.0
    """Bias of the head: at first nothing is thought right."""
    diversity_weight: float = 0.0
    """Weight of the hazard-KL; 0 turns the diversity regulariser off."""
    prior_hazard: float = 0.3
    """Share of the batch that the regulariser wants to halt at each step."""

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"model.halting.max_steps must be at least 1, got {self.max_steps}")
        for name in ("exploration", "prior_hazard", "threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"model.halting.{name} must be in [0, 1], got {value}")
        if self.diversity_weight and not 0 < self.prior_hazard < 1:
            raise ValueError(
                f"model.halting.prior_hazard must be in (0, 1), got {self.prior_hazard}"
            )
        if self.diversity_weight < 0:
            raise ValueError(
                f"model.halting.diversity_weight must be at least 0, got {self.diversity_weight}"
            )


class HaltingHead(nn.Module):
    """The halting head: answer state [B, T, W] -> logit [B] of "every token is right"."""

    def __init__(self, width: int, config: HaltingConfig) -> None:
        super().__init__()
        self.pool = config.pool
        # TRM's head has a second output, "continue", which its final form never reads
        self.linear = nn.Linear(width, 2) if config.pool == "first" else nn.Linear(2 * width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, config.initial_bias)

    def forward(self, answer: Tensor) -> Tensor:
        """Compute the halting logit, in at least float32."""
        pooled = answer[:, 0]
        if self.pool == "mean_min":
            pooled = torch.cat([answer.mean(1), answer.amin(1)], -1)
        logit: Tensor = self.linear(pooled)[:, 0]
        return logit.to(torch.promote_types(logit.dtype, torch.float32))


def exploration_minimum(rows: int, config: HaltingConfig, generator: torch.Generator) -> Tensor:
    """int64 [rows]: the fewest steps that a fresh example must take in training.

    0 for most; for a share `exploration` of them uniform in 2 .. max_steps, so that the head
    also sees what more steps would have given.
    """
    explores = torch.rand(rows, generator=generator) < config.exploration
    longest = max(2, config.max_steps)
    least = torch.randint(2, longest + 1, (rows,), generator=generator)
    return torch.where(explores, least.clamp(max=config.max_steps), torch.zeros_like(least))


def leaves_training(logit: Tensor, steps: Tensor, minimum: Tensor, config: HaltingConfig) -> Tensor:
    """bool [B]: rows that leave the batch after `steps` (int64 [B]) supervision steps."""
    wants = (logit > 0) & (steps >= minimum)
    return wants | (steps >= config.max_steps)


def halting_loss(logit: Tensor, right: Tensor, asked: Tensor | None = None) -> Tensor:
    """Sum over rows of the cross-entropy between the logit and "the answer is right" (bool).

    Only rows that are `asked` (bool) count; all do without it.
    """
    # a weight of 0 and not a selection: how many rows that leaves, a GPU would have to tell
    return nn.functional.binary_cross_entropy_with_logits(
        logit,
        right.to(logit.dtype),
        weight=None if asked is None else asked.to(logit.dtype),
        reduction="sum",
    )


def hazard_kl(logit: Tensor, steps: Tensor, config: HaltingConfig) -> Tensor:
    """Diversity regulariser: sum_k (share at step k) KL(Bern(lambda_k) || Bern(prior_hazard)).

    lambda_k is the mean halting probability of the rows at step k (int64 [B], from 1), so the
    batch's halting times are pulled to a geometric prior while the cross-entropy alone decides
    which rows halt. Unlike a penalty on variance its gradient is not zero when all rows agree.
    """
    floor = torch.finfo(logit.dtype).tiny
    probability = logit.sigmoid()
    prior = config.prior_hazard
    total = logit.new_zeros(())
    for step in torch.unique(steps).tolist():
        here = steps == step
        hazard = probability[here].mean()
        stay = (1 - probability[here]).mean()
        divergence = hazard * ((hazard + floor).log() - math.log(prior)) + stay * (
            (stay + floor).log() - math.log(1 - prior)
        )
        total = total + here.to(logit.dtype).mean() * divergence
    return total


class Halted(NamedTuple):
    """Results of evaluation with early exit, rows in the order they came in."""

    output: Tensor
    """Each row's output of the step at which it stopped."""
    logit: Tensor
    """[B], of that step."""
    steps: Tensor
    """int64 [B], from 1."""


def run_until_halted(
    step: Callable[[StateT], tuple[StateT, Tensor, Tensor]],
    state: StateT,
    select: Callable[[StateT, Tensor], StateT],
    *,
    threshold: float,
    max_steps: int,
    compaction: Compaction = "exact",
) -> Halted:
    """Step until each row is sure enough, working on the rows that are left.

    `step` gives (next state, outputs [b, ...], logits [b]); `select` keeps rows of a state by
    int64 indices. A row stops once sigmoid(logit) > `threshold`, a probability. `compaction`
    other than "exact" is for steps that want few different shapes, not for speed elsewhere:
    copies of a row that is left then fill up the batch, and what they give is dropped.
    """
    outputs: Tensor | None = None
    logits = steps = rows = torch.empty(0)
    for count in range(1, max_steps + 1):
        state, output, logit = step(state)
        if outputs is None:
            outputs, logits = torch.empty_like(output), torch.empty_like(logit)
            rows = torch.arange(len(logit), device=logit.device)
            steps = torch.zeros_like(rows)
        stops = logit[: len(rows)].sigmoid() > threshold
        if count == max_steps:
            stops = torch.ones_like(stops)
        # the only look at the device in a step
        staying = len(rows) - int(stops.sum())
        if staying == len(rows):
            continue
        order = stops.int().argsort(stable=True)
        stay, stopped = order[:staying], order[staying:]
        done = rows[stopped]
        outputs[done], logits[done], steps[done] = output[stopped], logit[stopped], count
        if not staying:
            break
        rows, state = rows[stay], select(state, filled_up(stay, len(logit), compaction))
    if outputs is None:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    return Halted(outputs, logits, steps)


def filled_up(rows: Tensor, batch: int, compaction: Compaction) -> Tensor:
    """int64 [n], n >= 1 -> as many as `compaction` wants of a batch, copies of the first last."""
    power = 1 << (len(rows) - 1).bit_length()
    size = {"exact": len(rows), "powers_of_two": min(power, batch), "none": batch}[compaction]
    return torch.cat([rows, rows[:1].expand(size - len(rows))])


def tuned_threshold(logits: Tensor, right: Tensor, *, most_lost: float) -> float:
    """The lowest threshold that loses at most the share `most_lost` of rows, on validation data.

    `logits` and `right` (bool) are [steps, B]: each row at each supervision step at full depth.
    A row is lost that is right at the last step and wrong at the stop. One that it is the other
    way round for makes up for none: which ones these are is luck, and other data has others.
    1.0, which stops nothing, where all of THRESHOLDS lose more.
    """
    for threshold in THRESHOLDS:
        lost = right[-1] & ~right_at(threshold, logits, right)
        if float(lost.double().mean()) <= most_lost:
            return threshold
    return 1.0


def right_at(threshold: float, logits: Tensor, right: Tensor) -> Tensor:
    """bool [B]: is a row right at the step where `threshold` stops it; [steps, B] each."""
    return right.gather(0, stops_at(threshold, logits)[None])[0]


def stops_at(threshold: float, logits: Tensor) -> Tensor:
    """int64 [B]: the step, from 0, at which `threshold` stops each row; logits [steps, B]."""
    stops = logits.sigmoid() > threshold
    stops[-1] = True
    return stops.int().argmax(0)
