"""Values that a formula gives, so that reference numbers need no stored inputs or weights.

`official_trm.json` and `gated_delta_rule.json` were made with these values; a test that compares a
model with one of them fills the model's tensors by the same formula. It uses integers only up to
its last division, so every machine and version gets the same numbers, bit for bit.

Element j (flat index from 0) of tensor number i: with the prime P = 2^31 - 1 and
mix(x) = x^5 mod P, a permutation of 0..P-1,
    x = mix(mix(48271 (j + 1)) + mix(69621 (i + 1) + SEED)) mod P,    u = x / P in [0, 1).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch

PRIME = 2**31 - 1
SEED = 0
IGNORED_LABEL = -100
INPUTS, LABELS, IGNORED = 1000, 1001, 1002  # numbers of the token tensors, beyond any weight's


def mix(values: torch.Tensor) -> torch.Tensor:
    """x^5 mod PRIME; each product of two values below PRIME fits in 63 bits."""
    values = values % PRIME
    square = values * values % PRIME
    return square * square % PRIME * values % PRIME


def formula_uniform(index: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Float64 values u in [0, 1) of tensor number `index`."""
    flat = torch.arange(1, math.prod(shape) + 1, dtype=torch.int64)
    offset = mix(torch.tensor(69621 * (index + 1) + SEED))
    return (mix(mix(48271 * flat) + offset).double() / PRIME).reshape(shape)


def formula_tensor(index: int, shape: tuple[int, ...], scale: float | None = None) -> torch.Tensor:
    """Float32 values (u - 1/2) * scale, computed in float64 and then rounded.

    The default scale gives a standard deviation of 1 / sqrt(last size) to a tensor of two or more
    dimensions (a matrix [out, in], a table [rows, width]) and of 1 to a vector.
    """
    if scale is None:
        scale = math.sqrt(12 / shape[-1]) if len(shape) > 1 else math.sqrt(12)
    return ((formula_uniform(index, shape) - 0.5) * scale).float()


def formula_integers(index: int, shape: tuple[int, ...], limit: int) -> torch.Tensor:
    """Int64 values floor(u * limit) in 0..limit-1."""
    return (formula_uniform(index, shape) * limit).long()


def official_tokens(batch: int = 2, tokens: int = 81, vocab: int = 11) -> torch.Tensor:
    """Input tokens [batch, tokens] of the TRM reference."""
    return formula_integers(INPUTS, (batch, tokens), vocab)


def official_labels(batch: int = 2, tokens: int = 81, vocab: int = 11) -> torch.Tensor:
    """Labels [batch, tokens] of the TRM reference; about 3 of 10 are IGNORED_LABEL."""
    labels = formula_integers(LABELS, (batch, tokens), vocab)
    return labels.masked_fill(formula_uniform(IGNORED, (batch, tokens)) < 0.3, IGNORED_LABEL)


def sample_positions(numel: int, count: int) -> torch.Tensor:
    """Flat positions of the sampled entries: all, or `count` evenly spaced, both ends included."""
    if numel <= count:
        return torch.arange(numel)
    return torch.arange(count) * (numel - 1) // (count - 1)


def summary(tensor: torch.Tensor, count: int) -> dict[str, Any]:
    """What the JSON files keep of a tensor: shape, three float64 sums and sampled entries."""
    flat = tensor.detach().reshape(-1).double()
    return {
        "shape": list(tensor.shape),
        "sum": flat.sum().item(),
        "abs_sum": flat.abs().sum().item(),
        "l2": flat.square().sum().sqrt().item(),
        "samples": flat[sample_positions(flat.numel(), count)].tolist(),
    }


def gated_delta_rule_inputs(
    tokens: int = 12, heads: int = 2, width: int = 8
) -> dict[str, torch.Tensor]:
    """Float64 inputs of the gated delta rule reference.

    q, k, v [heads, tokens, width] have standard deviation 1, k then l2 norm 1; theta and alpha
    [heads, tokens] lie in (0, 1) and (0.02, 0.3).
    """
    shape = (heads, tokens, width)
    q, k, v = (formula_tensor(number, shape, math.sqrt(12)).double() for number in range(3))
    return {
        "q": q,
        "k": k / k.norm(dim=-1, keepdim=True),
        "v": v,
        "theta": 0.05 + 0.9 * formula_uniform(3, (heads, tokens)),
        "alpha": 0.02 + 0.28 * formula_uniform(4, (heads, tokens)),
    }


def reference(name: str) -> dict[str, Any]:
    """The stored numbers of `name` ("official_trm" or "gated_delta_rule")."""
    return json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
