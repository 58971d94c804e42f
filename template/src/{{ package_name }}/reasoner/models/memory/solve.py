"""The sequential sums of the exact memories: substitution within a chunk, then chunk after chunk.

N rows, K chunks, C tokens of a chunk, Z = [M; S] with D rows here, V value width. Both are written
in torch; a kernel may be handed in for each (gpu/linear_launch.py). Autograd gets no gradient from
a kernel, so gradients are written out: each sum is the same again from the end to the start, by the
same function.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Substitution(Protocol):
    """The signature of `substitution`, for kernels that stand in for it."""

    def __call__(self, lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
        """As `substitution`."""


class Recurrence(Protocol):
    """The signature of `recurrence`, for kernels that stand in for it."""

    def __call__(
        self,
        steps: Tensor,
        pushes: Tensor,
        start: Tensor,
        initial: Tensor | None,
        resets: Tensor | None,
        *,
        backwards: bool,
    ) -> tuple[Tensor, Tensor]:
        """As `recurrence`."""


def substitution(lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
    """Solve the triangular system (I + L) X = right, or (I + L)^T X = right if `transposed`.

    L is [..., C, C] with zeros on and above its diagonal; right and X are [..., C, V].
    """
    if transposed:
        return torch.linalg.solve_triangular(lower.mT, right, upper=True, unitriangular=True)
    return torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)


def recurrence(
    steps: Tensor,
    pushes: Tensor,
    start: Tensor,
    initial: Tensor | None,
    resets: Tensor | None,
    *,
    backwards: bool,
) -> tuple[Tensor, Tensor]:
    """Carry a state on from chunk to chunk: Z' = step Z + push.

    Args:
        steps: [N, K, D, D].
        pushes: [N, K, D, V].
        start: Z before the first chunk, [N, D, V].
        initial: what a reset sets Z to, [N, D, V]; None without resets.
        resets: bool [N, K], True for a row that is reset before that chunk; or None.
        backwards: from the last chunk to the first, with transposed steps, and resets after them.

    Returns:
        Z as each chunk's step finds it, [N, K, D, V], and Z after all of them, [N, D, V].
    """
    columns = [None] * steps.shape[1] if resets is None else resets[..., None, None].unbind(1)
    chunks = [*zip(steps.unbind(1), pushes.unbind(1), columns, strict=True)]
    starts = []
    for step, push, reset in reversed(chunks) if backwards else chunks:
        if not backwards:
            start = _reset(start, initial, reset)
        starts.append(start)
        start = torch.baddbmm(push, step.mT if backwards else step, start)
        if backwards:
            start = _reset(start, initial, reset)
    return torch.stack(starts[::-1] if backwards else starts, 1), start


def _reset(state: Tensor, initial: Tensor | None, reset: Tensor | None) -> Tensor:
    return state if reset is None or initial is None else torch.where(reset, initial, state)


class Substituted(torch.autograd.Function):
    """The triangular solve by a `Substitution` that is handed in, with its gradient written out."""

    @staticmethod
    def forward(ctx: Any, lower: Tensor, right: Tensor, substitute: Substitution) -> Tensor:
        """By `substitute`."""
        solved = substitute(lower, right, transposed=False)
        ctx.substitute = substitute
        ctx.save_for_backward(lower, solved)
        return solved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """By `substitute`, from the last row to the first."""
        lower, solved = ctx.saved_tensors
        grad_right = ctx.substitute(lower, grad, transposed=True)
        return -(grad_right @ solved.mT).tril(-1), grad_right, None


class Recurred(torch.autograd.Function):
    """The state carried on by a `Recurrence` that is handed in, with its gradient written out."""

    @staticmethod
    def forward(
        ctx: Any,
        steps: Tensor,
        pushes: Tensor,
        start: Tensor,
        initial: Tensor | None,
        resets: Tensor | None,
        recur: Recurrence,
    ) -> tuple[Tensor, Tensor]:
        """By `recur`."""
        starts, end = recur(steps, pushes, start, initial, resets, backwards=False)
        ctx.recur = recur
        ctx.save_for_backward(steps, starts, resets)
        return starts, end

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_starts: Tensor, grad_end: Tensor) -> tuple[Tensor | None, ...]:
        """By `recur`, from the last chunk to the first; a reset lets no gradient through."""
        steps, starts, resets = ctx.saved_tensors
        none = None if resets is None else torch.zeros_like(grad_end)
        grad_pushes, grad = ctx.recur(steps, grad_starts, grad_end, none, resets, backwards=True)
        grad_initial = None
        if resets is not None:
            found = grad_starts + steps.mT @ grad_pushes
            grad_initial = (found * resets[..., None, None]).sum(1)
        return grad_pushes @ starts.mT, grad_pushes, grad, grad_initial, None, None


class Sums(NamedTuple):
    """The functions that do the sequential sums of a call: torch's own, or kernels."""

    substitute: Substitution
    recur: Recurrence


TORCH = Sums(substitution, recurrence)


def solve(lower: Tensor, right: Tensor, substitute: Substitution) -> Tensor:
    """Solve (I + L) X = right, as `substitution` does, by the function that is handed in.

    Forward substitution is the recurrence itself, hence as stable. A product of powers of L
    would be fewer kernels, but with like keys those powers are too large for float32.
    """
    if substitute is substitution:
        return substitution(lower, right, transposed=False)
    out: Tensor = Substituted.apply(lower, right, substitute)  # type: ignore[no-untyped-call]
    return out


def carried_on(
    steps: Tensor,
    pushes: Tensor,
    start: Tensor,
    initial: Tensor | None,
    resets: Tensor | None,
    recur: Recurrence,
) -> tuple[Tensor, Tensor]:
    """Carry a state on from the first chunk to the last, as `recurrence` does, by `recur`."""
    given = (steps, pushes, start, initial, resets)
    if recur is recurrence:
        return recurrence(*given, backwards=False)
    starts, end = Recurred.apply(*given, recur)  # type: ignore[no-untyped-call]
    return starts, end
