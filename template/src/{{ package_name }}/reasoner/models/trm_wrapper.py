"""Recursive refinement by one small network (Jolicoeur-Martineau 2025, Tiny Recursive Model).

B batch, T tokens, W width. Two states are refined: y, the embedded answer, and z, the latent
reasoning. The network tells them apart by what is added to its input: the question x only
when it reasons. Nothing here knows of optimizers: a supervision step is one call of `forward`,
and whoever calls it detaches the states in between.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers.initial_weights import truncated_normal

Net = Callable[[Tensor], Tensor]
"""[B, T, W] -> [B, T, W]; one and the same for both states."""
Begin = Callable[[], Net]
"""The network for one latent recursion, whose first application may leave the later ones what it
found out."""


class States(NamedTuple):
    """The two states of TRM's recursion: embedded answer, latent reasoning, [B, T, W]."""

    answer: Tensor
    latent: Tensor

    def detach(self) -> "States":
        """The same values, without the graph that made them."""
        return States(self.answer.detach(), self.latent.detach())


@dataclass(frozen=True, kw_only=True)
class RecursionConfig:
    """How often the network is applied in one supervision step."""

    latent_steps: int = 6
    """n: updates of the latent before each update of the answer."""
    recursions: int = 3
    """T: latent recursions; only the last one has a gradient."""
    shallow_share: float = 0.0
    """Share of a training's steps, from its first, that take one latent recursion in place of T."""

    def __post_init__(self) -> None:
        for name in ("latent_steps", "recursions"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.shallow_share <= 1:
            raise ValueError(
                f"model.recursion.shallow_share must be in [0, 1], got {self.shallow_share}"
            )

    @property
    def applications(self) -> int:
        """Applications of the network in one supervision step."""
        return self.recursions * (self.latent_steps + 1)

    def in_training(self, step: int, steps: int) -> "RecursionConfig":
        """What step `step`, from 1, of a training of `steps` takes: shallow early, deep late."""
        shallow = step <= self.shallow_share * steps
        return replace(self, recursions=1) if shallow else self


def latent_recursion(net: Net, question: Tensor, states: States, latent_steps: int) -> States:
    """n times z = net(x + y + z), then y = net(y + z) (TRM, figure 3)."""
    answer, latent = states
    for _ in range(latent_steps):
        latent = net(question + answer + latent)
    return States(net(answer + latent), latent)


def deep_recursion(
    begin: Begin, question: Tensor, states: States, config: RecursionConfig
) -> States:
    """T - 1 latent recursions without a graph, then one with (TRM, figure 3).

    `question` and both states are [B, T, W]. Backpropagation goes through all n + 1
    applications of the last recursion, and through nothing before it.
    """
    with torch.no_grad():
        for _ in range(config.recursions - 1):
            states = latent_recursion(begin(), question, states, config.latent_steps)
    return latent_recursion(begin(), question, states, config.latent_steps)


class InitialStates(nn.Module):
    """The states that every example starts from: fixed random vectors, no parameters.

    A parameter here could never learn: the recursions that read it have no gradient.
    """

    answer: Tensor
    latent: Tensor

    def __init__(self, width: int, std: float = 1.0) -> None:
        super().__init__()
        for name in ("answer", "latent"):
            self.register_buffer(name, truncated_normal(torch.empty(width), std=std))

    def forward(self, like: Tensor) -> States:
        """One state vector for each token of `like` [B, T, W]."""
        return States(self.answer.to(like).expand_as(like), self.latent.to(like).expand_as(like))
