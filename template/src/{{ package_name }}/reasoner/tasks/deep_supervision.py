"""Training by deep supervision: one optimizer step a supervision step (TRM, figure 3).

B batch, T tokens, P persistent tokens, W width, V vocabulary. An example stays in the batch,
with its states in the carry, until its halting head is sure or its steps are used up; then the
next candidate takes its place. A task of this kind gives examples with `tokens` and `labels`,
int64 [T] each, labels -100 where nothing is asked; what a grid and a sequence share is here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from ...engine.config.run_config import RunConfig
from ...engine.data.dataset import Batch, Dataset
from ...engine.errors import RefusedInputError
from ...engine.seeding import torch_generator
from ...engine.training.task import Carry, LossOutput, ReportSection, Row, StepKeys, Task, Workload
from ..data.labels import IGNORED
from ..evaluation.answers import answer_scores
from ..evaluation.halting import halting_scores
from ..evaluation.halting_by_step import step_scores
from ..evaluation.halting_threshold import tuned_scores
from ..evaluation.memory_section import memory_sections
from ..models.act_head import (
    exploration_minimum,
    halting_loss,
    hazard_kl,
    leaves_training,
)
from ..models.full_model import ReasonerConfig, SupervisionStep
from ..models.trm_wrapper import RecursionConfig
from .course import Course, asked_of, full_course, reasoner_of, stops
from .losses import answer_loss, token_accuracy
from .workloads import prefill_workloads, solving_workloads

HALTING_WEIGHT = 0.5
"""Weight of the halting loss beside the answer's (TRM, figure 3)."""
ConfigT = TypeVar("ConfigT", bound=RunConfig)


class DeepSupervisionTask(Task[ConfigT], Generic[ConfigT]):
    """Deep supervision, shared by every task of the reasoner; subclasses give data, model, scores.

    Their config has a field `model` of type ReasonerConfig.
    """

    per_micro_batch = frozenset({"diversity"})
    repeats_blocks = True

    def __init__(self, config: ConfigT) -> None:
        super().__init__(config)
        self.threshold = self.reasoner.halting.threshold

    def use_validation(self, scores: Mapping[str, float]) -> None:
        """Stop at the threshold that was tuned on validation."""
        self.threshold = scores.get("threshold", self.threshold)

    def with_steps(self, steps: int) -> "DeepSupervisionTask[ConfigT]":
        """The same task with another number of supervision steps, more than in training or fewer.

        Raises RefusedInputError for fewer than one.
        """
        if steps < 1:
            raise RefusedInputError(f"--steps {steps}: at least one step is taken")
        halting = replace(self.reasoner.halting, max_steps=steps)
        model = replace(self.reasoner, halting=halting)
        return type(self)(replace(self.config, model=model))  # type: ignore[call-arg]

    @property
    def reasoner(self) -> ReasonerConfig:
        """The model's config."""
        config: ReasonerConfig = self.config.model  # type: ignore[attr-defined]
        return config

    def begin(self, carry: Carry | None, candidates: Batch) -> tuple[Batch, Carry | None]:
        """Begin a supervision step: keep rows that have not halted, take candidates for the others.

        The carry holds a row's own data (`data.<name>`), its states `answer` and `latent`
        [B, P + T, W], its `steps` so far, the `minimum` that exploration asks of it, whether it
        has `halted`, and `updates`, the optimizer steps taken so far. With one supervision
        step an example nothing lives on, and there is no carry.
        """
        if self.reasoner.halting.max_steps == 1:
            return candidates, None
        if carry is None:
            carry = self._empty_carry(candidates)
        fresh = carry["halted"]
        batch = {
            name: torch.where(_as(fresh, value), value, carry[f"data.{name}"])
            for name, value in candidates.items()
        }
        generator = torch_generator(self.config.seed, "exploration", int(carry["updates"][0]))
        minimum = exploration_minimum(len(fresh), self.reasoner.halting, generator)
        begun = {
            **carry,
            "steps": torch.where(fresh, self._first_steps(carry), carry["steps"]),
            "minimum": torch.where(fresh, minimum.to(fresh.device), carry["minimum"]),
        }
        return batch, begun

    def _first_steps(self, carry: Carry) -> Tensor:
        """int64 [B]: the steps that fresh rows count from, 0 but for a run's very first batch.

        Its rows count from random numbers, so that they do not leave together for as long as none
        is ever right: each update then sees rows of every age, and new ones.
        """
        if int(carry["updates"][0]):
            return torch.zeros_like(carry["steps"])
        generator = torch_generator(self.config.seed, "first steps")
        most = self.reasoner.halting.max_steps
        drawn = torch.randint(0, most, carry["steps"].shape, generator=generator)
        return drawn.to(carry["steps"].device)

    def _empty_carry(self, candidates: Batch) -> Carry:
        """The empty carry of deep supervision: as if every row had just halted."""
        tokens = candidates["tokens"]
        rows, config = len(tokens), self.reasoner
        shape = (rows, config.persistent_tokens + tokens.shape[1], config.backbone.width)
        states = torch.zeros(shape, device=tokens.device)
        count = torch.zeros(rows, dtype=torch.int64, device=tokens.device)
        return {
            **{f"data.{name}": value for name, value in candidates.items()},
            "answer": states,
            "latent": states,
            "steps": count,
            "minimum": count,
            "updates": count,
            "halted": torch.ones_like(count, dtype=torch.bool),
        }

    def counts(self, batch: Batch, carry: Carry | None) -> dict[str, int]:
        """Rows that ask for something, for both terms."""
        asked = int((batch["labels"] != IGNORED).any(1).sum())
        return {"answer": asked, "halting": asked}

    def loss(
        self, model: nn.Module, batch: Batch, carry: Carry | None, keys: StepKeys
    ) -> LossOutput:
        """Cross-entropy of the answer, a row's mean over its labels, and of the halting head."""
        depth = self.reasoner.recursion.in_training(keys.step, self.config.training.steps)
        out = self._supervise(model, batch, carry, depth)
        labels, halting = batch["labels"], self.reasoner.halting
        asked = (labels != IGNORED).any(1)
        right = self.is_right(out.logits, labels)
        terms = {
            "answer": answer_loss(out.logits, labels, self.reasoner.normaliser).sum(),
            "halting": HALTING_WEIGHT * halting_loss(out.halting, right, asked),
        }
        steps = torch.ones_like(labels[:, 0]) if carry is None else carry["steps"] + 1
        if halting.diversity_weight:
            terms["diversity"] = halting.diversity_weight * hazard_kl(out.halting, steps, halting)
        metrics: dict[str, float | Tensor] = {
            "accuracy": right.float().mean(),
            "token_accuracy": token_accuracy(out.logits, labels),
        }
        if carry is None:
            return LossOutput(terms=terms, metrics=metrics)
        halted = leaves_training(out.halting.detach(), steps, carry["minimum"], halting)
        metrics |= {"halted": halted.float().mean(), "steps": steps.float().mean()}
        return LossOutput(
            terms=terms,
            metrics=metrics,
            carry={
                **{f"data.{name}": value for name, value in batch.items()},
                "answer": out.answer.detach().float(),
                "latent": out.latent.detach().float(),
                "steps": steps,
                "minimum": carry["minimum"],
                "updates": carry["updates"] + 1,
                "halted": halted,
            },
        )

    def _supervise(
        self, model: nn.Module, batch: Batch, carry: Carry | None, depth: RecursionConfig
    ) -> SupervisionStep:
        documents = batch.get("documents")
        if carry is None:
            first: SupervisionStep = model(batch["tokens"], None, None, documents, depth)
            return first
        like = carry["answer"]
        start = reasoner_of(model).initial(like)
        fresh = carry["halted"]
        answer, latent = (
            torch.where(_as(fresh, like), begun, carry[name])
            for name, begun in zip(("answer", "latent"), start, strict=True)
        )
        later: SupervisionStep = model(batch["tokens"], answer, latent, documents, depth)
        return later

    def is_right(self, logits: Tensor, labels: Tensor) -> Tensor:
        """bool [B]: every label of the row is the likeliest token."""
        agrees = (logits.detach().argmax(-1) == labels) | (labels == IGNORED)
        return agrees.all(1)

    def predict(self, model: nn.Module, batch: Batch) -> list[Row]:
        """Each row at full depth, stopped where its head was sure for the first time.

        A causal model is not stopped: its head has seen the whole sequence. The output holds
        the answer at the labelled positions, the steps taken, the first step that was right,
        and what the head said at each step.
        """
        steps = self.reasoner.halting.max_steps
        course = full_course(reasoner_of(model), batch, steps, self.is_right)
        taken = stops(course, self.threshold, never=self.causal)
        return [self._row(batch, row, int(taken[row]), course) for row in range(len(taken))]

    def _row(self, batch: Batch, row: int, taken: int, course: Course) -> Row:
        return Row(
            example_id=int(batch["example_id"][row]),
            target=asked_of(batch["labels"], row, batch["labels"][row]),
            output=course.output(batch["labels"], row, taken),
            confidence=None if self.causal else float(course.sure[taken, row]),
            slices=self.slices(batch, row),
        )

    def slices(self, batch: Batch, row: int) -> dict[str, str]:
        """What to break a row's scores down by; by default nothing."""
        return {}

    def scores(self, rows: Sequence[Row]) -> dict[str, float]:
        """Share of right tokens and of right examples; where examples may stop, of halting, too."""
        found = answer_scores(rows)
        if self.causal:
            return found
        return found | halting_scores(rows) | tuned_scores(rows) | step_scores(rows)

    def inspection_sections(
        self, model: nn.Module, rows: Sequence[Row], examples: Dataset, folder: Path
    ) -> list[ReportSection]:
        """Inspect any reasoner's memory: the gate, and how much surprises the memory, by layer."""
        size = self.config.evaluation.batch_size
        return memory_sections(reasoner_of(model), examples, folder, batch_size=size)

    def workloads(self, model: nn.Module) -> Sequence[Workload]:
        """A grid is solved, at full depth and stopped early; a sequence is read at once."""
        tokens: Tensor = self.example_input()[0]
        made = prefill_workloads if self.causal else solving_workloads
        return made(reasoner_of(model), tokens, self.name)


def _as(rows: Tensor, like: Tensor) -> Tensor:
    """bool [B] -> [B, 1, ...] with as many dimensions as `like`."""
    return rows.view(-1, *[1] * (like.ndim - 1))
