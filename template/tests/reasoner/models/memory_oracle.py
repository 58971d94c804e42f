"""The long-term memory in plain words: one token after the other, gradients by autograd.

N rows, T tokens, D key width, F features, V value width. Gates are a sequence (rate, log_keep,
log_momentum, inner_rate) of [N, T]; a state is a list of tensors, [M, S] or [W1, S1, W2, S2].
The loss of a token is 1/2 ||M(k) - v||^2. Everything can be differentiated through.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

State = list[Tensor]
Model = Callable[[Tensor], Tensor]


def lookup(x: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("nd,ndv->nv", x, weights)


def features(x: Tensor, first: Tensor, *, normalise: bool) -> Tensor:
    active = torch.nn.functional.silu(lookup(x, first))
    return active / (active.square().sum(-1, keepdim=True) + 1e-6).sqrt() if normalise else active


def pull_back(model: Model, weights: Tensor, error: Tensor) -> Tensor:
    """The gradient in `weights` of a loss of model(weights) whose gradient there is `error`."""
    with torch.enable_grad():
        # a copy, so that only this use of the weights counts
        free = weights.clone() if weights.requires_grad else weights.detach().requires_grad_()
        return torch.autograd.grad(model(free), free, error, create_graph=True)[0]


def loss_gradient(model: Model, weights: Tensor, value: Tensor) -> Tensor:
    """The gradient of 1/2 ||model(weights) - value||^2 in `weights`."""
    with torch.enable_grad():
        free = weights.clone() if weights.requires_grad else weights.detach().requires_grad_()
        loss = 0.5 * (model(free) - value).square().sum()
        return torch.autograd.grad(loss, free, create_graph=True)[0]


def descend(
    weights: Tensor, momentum: Tensor, grad: Tensor, gates: Sequence[Tensor], rate: Tensor
) -> State:
    """Titans, eq. 13 and 14."""
    keep, eta = gates[1].exp(), gates[2].exp()
    momentum = eta[:, None, None] * momentum - rate[:, None, None] * grad
    return [keep[:, None, None] * weights + momentum, momentum]


def restart(state: State, initial: State, rows: Tensor) -> State:
    """`initial` in the rows where a document begins."""
    return [
        torch.stack([new[n] if rows[n] else old[n] for n in range(len(rows))])
        for old, new in zip(state, initial, strict=True)
    ]


def linear_oracle(
    q: Tensor, k: Tensor, v: Tensor, gates: Sequence[Tensor], state: State,
    *, chunk: int = 1, initial: State | None = None, resets: Tensor | None = None,
) -> tuple[Tensor, State]:  # fmt: skip
    reads = []
    for t in range(q.shape[1]):
        now = [gate[:, t] for gate in gates]
        if t % chunk == 0 and resets is not None and initial is not None:
            state = restart(state, initial, resets[:, t // chunk])
        grad = loss_gradient(lambda w, t=t: lookup(k[:, t], w), state[0], v[:, t])
        state = descend(*state, grad, now, now[0])
        reads.append(lookup(q[:, t], state[0]))
    return torch.stack(reads, 1), state


def deep_oracle(
    q: Tensor, k: Tensor, v: Tensor, gates: Sequence[Tensor], state: State,
    *, chunk: int, stale: bool = False, initial: State | None = None,
    resets: Tensor | None = None,
) -> tuple[Tensor, State]:  # fmt: skip
    """Stale: both layers' gradients at the chunk's first weights, no normalisation.

    Exact: the features are those of the chunk's first W1; W2 is updated at its own weights; W1
    by the exact error, taken back through the chunk's first W1 and W2.
    """
    reads, frozen = [], state
    for t in range(q.shape[1]):
        key, value, now = k[:, t], v[:, t], [gate[:, t] for gate in gates]
        if t % chunk == 0:
            if resets is not None and initial is not None:
                state = restart(state, initial, resets[:, t // chunk])
            frozen = state
        first, second = frozen[0], frozen[2]
        hidden = features(key, first, normalise=not stale)
        at = second if stale else state[2]
        second_grad = loss_gradient(lambda w, h=hidden: lookup(h, w), at, value)
        first_grad = pull_back(
            lambda w, x=key, second=second: lookup(features(x, w, normalise=not stale), second),
            first,
            lookup(hidden, at) - value,
        )
        rate = now[0] if stale else now[3] / chunk
        state = [
            *descend(*state[:2], first_grad, now, rate),
            *descend(*state[2:], second_grad, now, now[0]),
        ]
        reading = features(q[:, t], state[0] if stale else first, normalise=not stale)
        reads.append(lookup(reading, state[2]))
    return torch.stack(reads, 1), state


def set_oracle(
    q: Tensor, k: Tensor, v: Tensor, gates: Sequence[Tensor], state: State,
    *, steps: int, mask: Tensor | None = None,
) -> tuple[Tensor, State]:  # fmt: skip
    """One row after the other, with the tokens that are written picked out."""
    rows: list[State] = []
    for n in range(len(q)):
        chosen = torch.ones(q.shape[1], dtype=torch.bool) if mask is None else mask[n]
        key, value = k[n, chosen], v[n, chosen]
        rate, log_keep, log_momentum, inner = (gate[n, chosen] for gate in gates)
        now = [rate.mean(), log_keep.exp().mean().log(), log_momentum.exp().mean().log()]
        now = [each[None] for each in now]
        row = [each[n : n + 1] for each in state]
        start = row[0]
        for _ in range(steps):
            if len(row) == 2:
                at = row[0]
                grad = loss_gradient(lambda w, x=key: x @ w[0], at, value) / len(key)
                row = descend(*row, grad, now, now[0])
                continue

            def model(w1: Tensor, w2: Tensor, x: Tensor = key) -> Tensor:
                return features(x, w1.expand(len(x), -1, -1), normalise=True) @ w2[0]

            first, second = start, row[2]
            first_grad = loss_gradient(lambda w, s=second: model(w, s), first, value) / len(key)
            second_grad = loss_gradient(lambda w, f=first: model(f, w), second, value) / len(key)
            row = [
                *descend(*row[:2], first_grad, now, inner.mean()[None]),
                *descend(*row[2:], second_grad, now, now[0]),
            ]
        rows.append(row)
    state = [torch.cat(each) for each in zip(*rows, strict=True)]
    if len(state) == 2:
        return q @ state[0], state
    active = torch.nn.functional.silu(q @ state[0])
    unit = active / (active.square().sum(-1, keepdim=True) + 1e-6).sqrt()
    return unit @ state[2], state
