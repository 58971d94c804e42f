"""The exact memories, one chunk after another, with their gradients written out, for CPUs.

The backward pass is a recurrence of its own, from the last chunk to the first; what a chunk does
stands in memory_chunk.py and memory_deep_chunk.py. Results and gradients are those of
memory_linear.py and memory_deep.py, but the gradients have no graph of their own.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .memory_chunk import Kept, chunk_backward, chunk_forward
from .memory_deep_chunk import DeepKept, deep_chunk_backward, deep_chunk_forward
from .memory_products import Products, slices


def by_chunk_serves(x: Tensor) -> bool:
    """Whether the chunks are computed here: on CPUs, but where torch.compile fuses by itself."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class LinearByChunk(torch.autograd.Function):
    """(q, k, v, theta, log keep, log eta, state, state to reset to or None, resets or None, chunk).

    Gives what the tokens read [N, T, V] and the state after them; a state is [N, 2 V, D], M and S
    transposed, one above the other. See `linear_memory`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rate: Tensor,
        log_keep: Tensor,
        log_momentum: Tensor,
        state: Tensor,
        initial: Tensor | None,
        resets: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        """Chunk after chunk."""
        products = Products(log_keep, log_momentum, chunk)
        reads, kept = torch.empty_like(v), list[Tensor]()
        training = any(ctx.needs_input_grad)
        for index, part in enumerate(slices(q.shape[1], chunk)):
            if resets is not None and initial is not None:
                state = torch.where(resets[:, index, None, None], initial, state)
            spread = products.spread(part)
            read, after, each = chunk_forward(
                q[:, part], k[:, part], v[:, part], rate[:, part], spread, state
            )
            reads[:, part] = read
            if training:
                kept += each.flat()
            state = after
        ctx.products = products
        ctx.save_for_backward(q, k, rate, resets, *kept)
        return reads, state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_state: Tensor) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end to the start."""
        q, k, rate, resets, *flat = ctx.saved_tensors
        products: Products = ctx.products
        grads = [torch.empty_like(x) for x in (q, k, grad, rate)]
        grad_initial = None if resets is None else torch.zeros_like(grad_state)
        parts = slices(q.shape[1], products.chunk)
        for index in reversed(range(len(parts))):
            part, kept = parts[index], Kept.of(_share(flat, index, len(parts)))
            found = chunk_backward(
                q[:, part], k[:, part], rate[:, part], kept, grad[:, part], grad_state
            )
            products.backward(part, kept.spread, found.spread)
            for whole, piece in zip(grads, found[:4], strict=True):
                whole[:, part] = piece
            grad_state = found.start
            if resets is not None and grad_initial is not None:
                reset = resets[:, index, None, None]
                grad_initial += grad_state * reset
                grad_state = grad_state * ~reset
        return (*grads, *products.grads(), grad_state, grad_initial, None, None)


class DeepByChunk(torch.autograd.Function):
    """(q, k, v, theta, log keep, log eta, inner rate, states, initial ones, resets, chunk).

    There are two states, and two or None to reset to: of W1 and of W2.
    Gives the reads [N, T, V], the states [N, 2 F, D] and [N, 2 V, F] after them, and their
    weights at the start of the last chunk, [N, F, D] and [N, V, F]. See `deep_memory`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rate: Tensor,
        log_keep: Tensor,
        log_momentum: Tensor,
        inner_rate: Tensor,
        first: Tensor,
        second: Tensor,
        initial_first: Tensor | None,
        initial_second: Tensor | None,
        resets: Tensor | None,
        chunk: int,
    ) -> tuple[Tensor, ...]:
        """Chunk after chunk."""
        products = Products(log_keep, log_momentum, chunk)
        reads, kept = torch.empty_like(v), list[Tensor]()
        training = any(ctx.needs_input_grad)
        starts = first, second
        for index, part in enumerate(slices(q.shape[1], chunk)):
            if resets is not None and initial_first is not None and initial_second is not None:
                reset = resets[:, index, None, None]
                first = torch.where(reset, initial_first, first)
                second = torch.where(reset, initial_second, second)
            starts, rates = (first, second), (rate[:, part], inner_rate[:, part])
            read, first, second, each = deep_chunk_forward(
                q[:, part], k[:, part], v[:, part], rates, products.spread(part), first, second
            )
            reads[:, part] = read
            if training:
                kept += each.flat()
        ctx.products = products
        ctx.save_for_backward(q, k, rate, inner_rate, resets, *kept)
        return reads, first, second, *(x.chunk(2, 1)[0].clone() for x in starts)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, first: Tensor, second: Tensor, *frozen: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end to the start."""
        q, k, rate, inner_rate, resets, *flat = ctx.saved_tensors
        products: Products = ctx.products
        grads = [torch.empty_like(x) for x in (q, k, grad, rate, inner_rate)]
        initial = [None, None] if resets is None else [torch.zeros_like(x) for x in (first, second)]
        parts = slices(q.shape[1], products.chunk)
        for index in reversed(range(len(parts))):
            part, kept = parts[index], DeepKept.of(_share(flat, index, len(parts)))
            found = deep_chunk_backward(
                q[:, part], k[:, part], (rate[:, part], inner_rate[:, part]),
                kept, grad[:, part], first, second,
            )  # fmt: skip
            products.backward(part, kept.second.spread, found.spread)
            for whole, piece in zip(grads, found[:5], strict=True):
                whole[:, part] = piece
            first, second = found.first, found.second
            if index == len(parts) - 1:
                for each, last in zip((first, second), frozen, strict=True):
                    each.chunk(2, 1)[0].add_(last)
            if resets is not None:
                reset = resets[:, index, None, None]
                initial = [x + y * reset for x, y in zip(initial, (first, second), strict=True)]
                first, second = first * ~reset, second * ~reset
        *some, by_inner = grads
        return (*some, *products.grads(), by_inner, first, second, *initial, None, None)


def _share(flat: list[Tensor], index: int, of: int) -> list[Tensor]:
    """What the `index`-th of so many chunks put into the list."""
    each = len(flat) // of
    return flat[index * each : (index + 1) * each]
