"""How much of T random pairs each memory still knows, beside the delta rule.

`python -m tests.reasoner.models.random_pairs` prints the table. Keys are normal, of
length 1 and 64 wide; values are normal. What is counted is |k M - v| / |v|, the mean over the last
16 pairs and over all: 0 is perfect, 1 is nothing known. The delta rule (theta = 1, no momentum,
nothing forgotten) writes each pair so that it is known exactly at once.
"""

import math

import torch
from torch import Tensor

from reference_reasoner.reasoner.models.memory.gates import STARTS, Gates
from reference_reasoner.reasoner.models.memory.routes import scan_deep, scan_linear
from reference_reasoner.reasoner.models.memory.sequential import read_deep
from reference_reasoner.reasoner.models.memory.state import DeepState, LinearState

WIDTH = 64
FEATURES = 128
ROWS = 8
LAST = 16
WRITES = (16, 32, 64, 128, 256, 1024)


def pairs(writes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values [ROWS, writes, WIDTH], float64."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(
        2, ROWS, writes, WIDTH, generator=generator, dtype=torch.float64
    ).unbind(0)
    return torch.nn.functional.normalize(keys, dim=-1), values


def default_gates(writes: int) -> Gates:
    """As a memory starts with them."""
    theta, alpha, eta, inner = (1 / (1 + math.exp(-start)) for start in STARTS)
    numbers = ((1 - eta) * theta, math.log1p(-alpha), math.log(eta), (1 - eta) * inner)
    return Gates(*(torch.full((ROWS, writes), n, dtype=torch.float64) for n in numbers))


def delta_rule_gates(writes: int) -> Gates:
    one = torch.ones(ROWS, writes, dtype=torch.float64)
    return Gates(one, 0 * one, torch.full_like(one, -torch.inf), 0 * one)


def errors(read: Tensor, values: Tensor) -> tuple[float, float]:
    """Mean relative error of the last pairs and of all."""
    each = (read - values).norm(dim=-1) / values.norm(dim=-1)
    return float(each[:, -LAST:].mean()), float(each.mean())


def linear_errors(writes: int, gates: Gates) -> tuple[float, float]:
    keys, values = pairs(writes)
    zero = torch.zeros(ROWS, WIDTH, WIDTH, dtype=torch.float64)
    _, state, _ = scan_linear(keys, keys, values, gates, LinearState(zero, zero), chunk=64)
    return errors(keys @ state.weights, values)


def deep_errors(writes: int, gates: Gates) -> tuple[float, float]:
    keys, values = pairs(writes)
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(ROWS, WIDTH, FEATURES, generator=generator, dtype=torch.float64)
    first = first / math.sqrt(WIDTH)
    second = torch.zeros(ROWS, FEATURES, WIDTH, dtype=torch.float64)
    start = DeepState(first, 0 * first, second, 0 * second, first, second)
    _, state, _ = scan_deep(keys, keys, values, gates, start, chunk=64)
    return errors(read_deep(keys, state), values)


def table() -> dict[int, dict[str, tuple[float, float]]]:
    """{writes: {memory: (error of the last pairs, of all)}}."""
    return {
        writes: {
            "delta rule": linear_errors(writes, delta_rule_gates(writes)),
            "linear": linear_errors(writes, default_gates(writes)),
            "deep": deep_errors(writes, default_gates(writes)),
        }
        for writes in WRITES
    }


def main() -> None:
    """Print the table as markdown."""
    names = ("delta rule", "linear", "deep")
    print("| writes | " + " | ".join(f"{n}, last {LAST} | {n}, all" for n in names) + " |")
    print("|" + "---|" * (1 + 2 * len(names)))
    for writes, found in table().items():
        numbers = " | ".join(f"{last:.2f} | {every:.2f}" for last, every in found.values())
        print(f"| {writes} | {numbers} |")


if __name__ == "__main__":
    main()
