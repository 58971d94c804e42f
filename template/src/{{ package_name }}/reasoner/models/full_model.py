"""The reasoner: tokens in, and at each supervision step a better answer out.

B batch, P persistent tokens, T tokens, W width, V vocabulary. TRM's recursion (trm_wrapper) of
the Titans-MAG network (titans_mag), with a head that says when the answer is right (act_head).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .act_head import Compaction, Halted, HaltingConfig, HaltingHead, run_until_halted
from .backbone import Backbone
from .layers.initial_weights import truncated_normal
from .layers.stablemax import Normaliser
from .titans_mag import BackboneConfig
from .trm_wrapper import InitialStates, RecursionConfig, States, deep_recursion


@dataclass(frozen=True, kw_only=True)
class ReasonerConfig:
    """The whole model but for its vocabulary."""

    backbone: BackboneConfig = BackboneConfig()
    recursion: RecursionConfig = RecursionConfig()
    halting: HaltingConfig = HaltingConfig()
    persistent_tokens: int = 16
    """Tokens before the input that every token sees."""
    learn_persistent: bool = True
    """Whether they are parameters (Titans) or zeros that only give room (TRM)."""
    initial_std: float = 1.0
    """Standard deviation of the states that examples start from; 1 in TRM, 0 starts at zero."""
    normaliser: Normaliser = "softmax"
    """How logits become the probabilities that are trained on."""
    tie_embeddings: bool = False
    """One matrix for embedding and head; hurts on puzzles (TRM, section 4)."""

    def __post_init__(self) -> None:
        if self.persistent_tokens < 0:
            raise ValueError(
                f"model.persistent_tokens must be at least 0, got {self.persistent_tokens}"
            )
        if self.initial_std < 0:
            raise ValueError(f"model.initial_std must be at least 0, got {self.initial_std}")
        if self.halting.pool == "first" and (self.persistent_tokens < 1 or self.backbone.causal):
            raise ValueError(
                "model.halting.pool is 'first', which reads a persistent token that sees every "
                f"token: got {self.persistent_tokens} of them and causal {self.backbone.causal}"
            )


class SupervisionStep(NamedTuple):
    """What one supervision step gives."""

    logits: Tensor
    """[B, T, V]"""
    answer: Tensor
    """[B, P + T, W], with a graph: detach it before the next step."""
    latent: Tensor
    """[B, P + T, W], likewise."""
    halting: Tensor
    """[B]: logit of "every token is right". Of a causal model it has seen the whole sequence:
    of use in training only."""

    @property
    def states(self) -> States:
        """Where the next supervision step begins; no gradient goes back through them."""
        return States(self.answer.detach(), self.latent.detach())


SolvingState = tuple[Tensor, Tensor, Tensor]
"""tokens int64 [B, T]; answer and latent [B, P + T, W]."""
SolvingStep = Callable[[SolvingState], tuple[SolvingState, Tensor, Tensor]]


class RecursiveReasoner(nn.Module):
    """The whole reasoner: tokens int64 [B, T] -> SupervisionStep; a pure function.

    `tokens` is what T must be where the mixer works on a fixed number of positions.
    """

    persistent: Tensor

    def __init__(self, config: ReasonerConfig, *, vocabulary: int, tokens: int) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.embedding = nn.Embedding(vocabulary, width)
        truncated_normal(self.embedding.weight, std=width**-0.5)
        persistent = torch.zeros(config.persistent_tokens, width)
        if config.learn_persistent and config.persistent_tokens:
            self.persistent = nn.Parameter(truncated_normal(persistent, std=width**-0.5))
        else:
            self.register_buffer("persistent", persistent)
        self.initial = InitialStates(width, config.initial_std)
        self.backbone = Backbone(config.backbone, config.persistent_tokens + tokens)
        self.head: nn.Linear | None = None
        if not config.tie_embeddings:
            self.head = nn.Linear(width, vocabulary, bias=False)
            truncated_normal(self.head.weight, std=width**-0.5)
        self.halting = HaltingHead(width, config.halting)

    def forward(
        self,
        tokens: Tensor,
        answer: Tensor | None = None,
        latent: Tensor | None = None,
        documents: Tensor | None = None,
        recursion: RecursionConfig | None = None,
    ) -> SupervisionStep:
        """One supervision step from `answer` and `latent`, by default the initial states.

        `documents` int64 [B, T] keeps packed documents apart (attention and causal memory);
        `recursion` takes the place of the config's.
        """
        question = self.question(tokens)
        states = self.initial(question)
        if answer is not None and latent is not None:
            states = States(answer.to(question.dtype), latent.to(question.dtype))
        prefix = self.config.persistent_tokens
        layout = self.backbone.layout(question, prefix, documents)

        states = deep_recursion(
            lambda: self.backbone.recursion(prefix, documents, layout),
            question,
            states,
            recursion or self.config.recursion,
        )
        return SupervisionStep(
            self.logits(states.answer[:, prefix:]),
            states.answer,
            states.latent,
            self.halting(states.answer),
        )

    def question(self, tokens: Tensor, *, with_persistent: bool = True) -> Tensor:
        """Embed tokens [B, T], the persistent tokens first, [B, P + T, W].

        In autocast's dtype where that is on, and the states with it, as in TRM's code: what is
        added up in float32 would be written and read at twice the bytes in every pass.
        """
        embedded = self.embedding(tokens)
        kind = embedded.device.type
        if torch.is_autocast_enabled(kind):
            embedded = embedded.to(torch.get_autocast_dtype(kind))
        if with_persistent:
            persistent = self.persistent.to(embedded.dtype).expand(len(tokens), -1, -1)
            embedded = torch.cat([persistent, embedded], 1)
        return embedded * math.sqrt(self.config.backbone.width)

    def logits(self, answer: Tensor) -> Tensor:
        """answer [B, T, W] -> [B, T, V]."""
        weight = self.embedding.weight if self.head is None else self.head.weight
        return nn.functional.linear(answer, weight.to(answer.dtype))

    def at_depth(
        self, tokens: Tensor, steps: int, documents: Tensor | None = None
    ) -> Iterator[SupervisionStep]:
        """Each of the first `steps` supervision steps, without gradients between them."""
        states: tuple[Tensor | None, Tensor | None] = (None, None)
        for _ in range(steps):
            step: SupervisionStep = self(tokens, *states, documents)
            states = step.states
            yield step

    def solve(
        self,
        tokens: Tensor,
        *,
        threshold: float,
        max_steps: int,
        compaction: Compaction = "exact",
        step: SolvingStep | None = None,
    ) -> Halted:
        """Logits of the step at which each row is sure enough; rows that are done leave.

        `compaction` is that of `run_until_halted`; `step` takes the place of `solving_step`.
        Raises ValueError for a causal model, whose halting logit has seen the future.
        """
        if self.config.backbone.causal:
            raise ValueError("a causal model works at fixed depth: use at_depth() or decoding")

        def select(state: SolvingState, rows: Tensor) -> SolvingState:
            return state[0][rows], state[1][rows], state[2][rows]

        start = self.initial(self.question(tokens))
        return run_until_halted(
            step or self.solving_step,
            (tokens, *start),
            select,
            threshold=threshold,
            max_steps=max_steps,
            compaction=compaction,
        )

    def solving_step(self, state: SolvingState) -> tuple[SolvingState, Tensor, Tensor]:
        """One supervision step: the state after it, logits [B, T, V] and halting logits [B]."""
        out: SupervisionStep = self(*state)
        return (state[0], *out.states), out.logits, out.halting
