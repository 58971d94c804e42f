"""Small models of the kinds whose costs are counted by hand, each under a task."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from reference_reasoner.engine.config.run_config import RunConfig
from reference_reasoner.engine.training.task import Task


class Convolution(nn.Module):
    """[B, 3, 10, 10] -> [B, 5]: a 3 x 3 convolution to 8 channels, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(800, 5)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.head(self.convolution(image).relu().flatten(1))
        return out


class Attention(nn.Module):
    """[B, 16, 32] -> the same: attention of 4 heads between two projections, with a mask."""

    def __init__(self, heads: int = 4, causal: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.inward = nn.Linear(32, 96, bias=False)
        self.outward = nn.Linear(32, 32, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, length, width = tokens.shape
        parts = self.inward(tokens).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        out: Tensor = self.outward(mixed.transpose(1, 2).reshape(rows, length, width))
        return out


class Shared(nn.Module):
    """[B, 8] -> [B, 8]: one block three times, and a head that shares the first weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=False)
        block = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.blocks = nn.ModuleList([block])
        self.head = nn.Linear(8, 8, bias=False)
        self.head.weight = self.first.weight

    def forward(self, point: Tensor) -> Tensor:
        hidden = self.first(point)
        for _ in range(3):
            for block in self.blocks:
                hidden = block(hidden)
        out: Tensor = self.head(hidden)
        return out


class Stack(nn.Module):
    """[B, 16, 32] -> the same: a norm, then blocks of attention, each added to its input."""

    def __init__(self, blocks: int = 3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.blocks = nn.ModuleList(Attention() for _ in range(blocks))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.norm(tokens)
        for block in self.blocks:
            hidden = hidden + torch.tanh(block(hidden))
        return hidden


class Normed(nn.Module):
    """[B, 4] -> [B, 4]; its batch norm refuses one example in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, point: Tensor) -> Tensor:
        out: Tensor = self.norm(self.linear(point))
        return out


class Recurrent(nn.Module):
    """[B, 5, 8] -> [B, 5, 16]: an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(8, 16, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        out: Tensor = self.memory(steps)[0]
        return out


class Peeking(nn.Module):
    """Needs the numbers themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, point: Tensor) -> Tensor:
        out: Tensor = self.linear(point)
        return out * 2 if point.sum().item() > -1 else out


def task_of(
    build: Callable[[], nn.Module], *arguments: Any, config: RunConfig | None = None
) -> Task[Any]:
    """A task with that model, which is only looked at and never trained."""

    class Counted(Task[RunConfig]):
        name = "counted"

        def build_model(self) -> nn.Module:
            return build()

        def example_input(self) -> tuple[Any, ...]:
            # made anew, for what is there already is no fake tensor
            return tuple(torch.zeros(shape) for shape in arguments)

    return Counted(config or RunConfig())
