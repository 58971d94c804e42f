"""What is sequential in the exact linear memory: substitution in a chunk, then chunk after chunk.

N rows, K chunks, C tokens of a chunk, Z = [M; S] with D rows here, V value width. Both are written
in torch; on a GPU one kernel does each (memory_linear_cuda.py). Autograd gets no gradient from a
kernel, so they are written out: each is the same again from the end to the start, by the same
function. That function is handed in, and tests hand in the torch form.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .gpu.gpu_kernels import linear_kernels_serve, recurrence_fits


class Substitution(Protocol):
    """What `substitution` is."""

    def __call__(self, lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
        """See there."""


class Recurrence(Protocol):
    """What `recurrence` is."""

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
        """See there."""


def substitution(lower: Tensor, right: Tensor, *, transposed: bool) -> Tensor:
    """(I + L)^-1 right or, `transposed`, (I + L)^-T right; L [..., C, C], right [..., C, V].

    L has zeros on and above its diagonal; those on it stand for the I.
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
    """Z' = step Z + push, chunk after chunk.

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
    """(L, right, a `Substitution`) -> (I + L)^-1 right."""

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
    """(steps, pushes, start, initial, resets, a `Recurrence`) -> what `recurrence` gives."""

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


def solve(lower: Tensor, right: Tensor) -> Tensor:
    """(I + L)^-1 right, as in `substitution`, by what suits.

    Forward substitution is the recurrence itself, hence as stable. A product of powers of L
    would be fewer kernels, but with like keys those powers are too large for float32.
    """
    if not linear_kernels_serve(right):
        return substitution(lower, right, transposed=False)
    from .gpu.linear_launch import substituted

    out: Tensor = Substituted.apply(lower, right, substituted)  # type: ignore[no-untyped-call]
    return out


def carried_on(
    steps: Tensor, pushes: Tensor, start: Tensor, initial: Tensor | None, resets: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`recurrence` from the first chunk to the last, by what suits."""
    given = (steps, pushes, start, initial, resets)
    if not (linear_kernels_serve(pushes) and recurrence_fits(pushes)):
        return recurrence(*given, backwards=False)
    from .gpu.linear_launch import recurred

    starts, end = Recurred.apply(*given, recurred)  # type: ignore[no-untyped-call]
    return starts, end
