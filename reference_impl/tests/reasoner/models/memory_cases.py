"""Random inputs of a memory, float64. Gates are a list in the order of the package's `Gates`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

KEYS, FEATURES, VALUES, ROWS = 3, 5, 4, 2


class Case(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    gates: list[Tensor]
    state: list[Tensor]
    other: list[Tensor]
    """A second state, to reset to."""

    def leaves(self) -> list[Tensor]:
        return [self.q, self.k, self.v, *self.gates, *self.state, *self.other]

    def part(self, tokens: slice) -> "Case":
        return self._replace(
            q=self.q[:, tokens], k=self.k[:, tokens], v=self.v[:, tokens],
            gates=[gate[:, tokens] for gate in self.gates],
        )  # fmt: skip


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_case(tokens: int, *, deep: bool, kind: str = "usual", grad: bool = False) -> Case:
    """Kinds: usual, no_momentum (eta = 0), mixed (eta = 0 at some tokens), keep (alpha near 0),
    forget (alpha near 1).
    """
    q, k = (unit(normal(ROWS, tokens, KEYS, seed=seed)) for seed in (1, 2))
    v = normal(ROWS, tokens, VALUES, seed=3)
    forget, eta, rate, inner = (normal(ROWS, tokens, seed=seed) for seed in (4, 5, 6, 7))
    shift = {"keep": -25.0, "forget": 25.0}.get(kind, -1.0)
    log_keep = torch.nn.functional.logsigmoid(-(forget + shift))
    log_momentum = torch.nn.functional.logsigmoid(eta)
    dead = {"no_momentum": eta > -torch.inf, "mixed": eta > 0.3}.get(kind, eta > torch.inf)
    log_momentum = log_momentum.masked_fill(dead, -torch.inf)
    gates = [rate.sigmoid(), log_keep, log_momentum, inner.sigmoid()]
    shapes = [(KEYS, VALUES)] * 2
    if deep:
        shapes = [(KEYS, FEATURES)] * 2 + [(FEATURES, VALUES)] * 2
    states = [
        [normal(ROWS, *shape, seed=seed + i) for i, shape in enumerate(shapes)] for seed in (10, 20)
    ]
    case = Case(q, k, v, gates, *states)
    if grad:
        for leaf in case.leaves():
            leaf.requires_grad_()
    return case


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def gradients(case: Case, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Of a fixed random projection of all outputs, in every leaf."""
    total = sum((x * normal(*x.shape, seed=30 + i)).sum() for i, x in enumerate(outputs))
    return list(
        torch.autograd.grad(total, case.leaves(), allow_unused=True, materialize_grads=True)
    )


def resets_of(chunks: int) -> Tensor:
    """Row 0 resets at its first chunk and every other; row 1 at chunk 1 only."""
    resets = torch.zeros(ROWS, chunks, dtype=torch.bool)
    resets[0, ::2] = True
    resets[1, 1:2] = True
    return resets


def assert_close(
    actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = 1e-10
) -> None:
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
