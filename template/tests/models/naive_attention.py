"""Attention written from its rules, key by key: the slow twin of models/attention.py."""

import torch
from torch import Tensor


def sees(
    query: int, key: int, prefix: int, window: int, causal: bool, documents: list[int] | None
) -> bool:
    """Whether row `query` sees row `key`; the first `prefix` rows are persistent tokens."""
    if not causal and documents is None:
        return True
    if key < prefix:
        return True
    if query < prefix:
        return False
    i, j = query - prefix, key - prefix
    if documents is not None and documents[i] != documents[j]:
        return False
    if not causal:
        return True
    return j <= i and (window == 0 or i - j < window)


def naive_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prefix: int = 0,
    window: int = 0,
    causal: bool = False,
    documents: Tensor | None = None,
) -> Tensor:
    """q, k, v [B, H, P + T, D] -> [B, H, P + T, D] by a dense mask and a plain softmax."""
    batch, _, rows, width = q.shape
    out = []
    for b in range(batch):
        ids = None if documents is None else documents[b].tolist()
        mask = torch.tensor(
            [[sees(i, j, prefix, window, causal, ids) for j in range(rows)] for i in range(rows)]
        )
        scores = (q[b] @ k[b].mT) / width**0.5
        out.append(scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v[b])
    return torch.stack(out)
