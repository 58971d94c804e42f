"""Attention written straight from its rules: one row, one key, one number at a time."""

import cmath
import math

import torch
from torch import Tensor


def sees(
    i: int, j: int, *, prefix: int, window: int, causal: bool, documents: list[int] | None
) -> bool:
    """Whether row i sees row j; rows below `prefix` are persistent tokens."""
    if not causal and documents is None:
        return True
    if i < prefix:
        return j < prefix
    if j < prefix:
        return True
    if documents is not None and documents[i - prefix] != documents[j - prefix]:
        return False
    return not causal or (j <= i and (window == 0 or i - j < window))


def naive_attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prefix: int = 0,
    window: int = 0,
    causal: bool = False,
    documents: Tensor | None = None,
) -> Tensor:
    batch, _, count, width = q.shape
    rows = []
    for b in range(batch):
        ids = None if documents is None else documents[b].tolist()
        rule = {"prefix": prefix, "window": window, "causal": causal, "documents": ids}
        for i in range(count):
            seen = [j for j in range(count) if sees(i, j, **rule)]
            scores = (q[b, :, i, None] * k[b][:, seen]).sum(-1) / math.sqrt(width)
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            rows.append((weights[..., None] * v[b][:, seen]).sum(1))
    return torch.stack(rows).unflatten(0, (batch, count)).transpose(1, 2)


def naive_rotary(x: Tensor, positions: list[list[int]], base: float = 10000.0) -> Tensor:
    """Complex numbers x_i + 1j x_{i + D/2}, each turned by its angle; positions [B][T]."""
    half = x.shape[-1] // 2
    turns = [
        [[cmath.exp(1j * p * base ** (-i / half)) for i in range(half)] for p in row]
        for row in positions
    ]
    numbers = torch.tensor(turns, dtype=torch.complex128)[:, None]
    turned = torch.complex(x[..., :half], x[..., half:]) * numbers
    return torch.cat([turned.real, turned.imag], -1)


def naive_self_attention(
    x: Tensor,
    qkv: Tensor,
    out: Tensor,
    *,
    heads: int,
    base: float,
    prefix: int,
    window: int,
    causal: bool,
    documents: Tensor | None,
) -> Tensor:
    """x [B, P + T, W] through weights qkv [3 W, W] and out [W, W]."""
    batch, rows, width = x.shape
    positions = []
    for b in range(batch):
        ids = [0] * (rows - prefix) if documents is None else documents[b].tolist()
        places = [prefix + t - ids.index(ids[t]) for t in range(len(ids))]
        positions.append([*range(prefix), *places])
    parts = [
        torch.stack((x @ matrix.T).split(width // heads, -1), 1) for matrix in qkv.split(width)
    ]
    q, k = (naive_rotary(part, positions, base) for part in parts[:2])
    y = naive_attend(
        q, k, parts[2], prefix=prefix, window=window, causal=causal, documents=documents
    )
    return torch.cat(list(y.unbind(1)), -1) @ out.T
