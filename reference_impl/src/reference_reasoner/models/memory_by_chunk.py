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


_Written = tuple[list[Tensor], list[Tensor]]
"""Of one chunk: what it began with, [N, ...], and what its tokens wrote, [N, C, ...]."""


class LinearByChunk(torch.autograd.Function):
    """(q, k, v, theta, log keep, log eta, state, state to reset to, resets, chunk, keep).

    The state to reset to and the resets may be None.
    Gives what the tokens read [N, T, V] and the state after them; a state is [N, 2 V, D], M and S
    transposed, one above the other. With `keep` also all chunks' starts [N, G, 2 V, D] and the
    errors [N, T, V]. See `linear_memory`.
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
        keep: bool,
    ) -> tuple[Tensor, ...]:
        """Chunk after chunk."""
        products = Products(log_keep, log_momentum, chunk)
        reads, kept, written = torch.empty_like(v), list[Tensor](), list[_Written]()
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
            if keep:
                written.append(([state], [each.errors]))
            state = after
        ctx.products = products
        ctx.save_for_backward(q, k, rate, resets, *kept)
        return reads, state, *_together(written)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, grad_state: Tensor, *written: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end to the start."""
        q, k, rate, resets, *flat = ctx.saved_tensors
        products: Products = ctx.products
        grads = [torch.empty_like(x) for x in (q, k, grad, rate)]
        grad_initial = None if resets is None else torch.zeros_like(grad_state)
        parts = slices(q.shape[1], products.chunk)
        for index in reversed(range(len(parts))):
            part, kept = parts[index], Kept.of(_share(flat, index, len(parts)))
            starts, of_tokens = _grads_of(written, index, part)
            found = chunk_backward(
                q[:, part], k[:, part], rate[:, part], kept, grad[:, part], grad_state, *of_tokens
            )
            products.backward(part, kept.spread, found.spread)
            for whole, piece in zip(grads, found[:4], strict=True):
                whole[:, part] = piece
            grad_state = sum(starts, start=found.start)
            if resets is not None and grad_initial is not None:
                reset = resets[:, index, None, None]
                grad_initial += grad_state * reset
                grad_state = grad_state * ~reset
        return (*grads, *products.grads(), grad_state, grad_initial, None, None, None)


class DeepByChunk(torch.autograd.Function):
    """(q, k, v, theta, log keep, log eta, inner rate, states, initial ones, resets, chunk, keep).

    There are two states, and two or None to reset to: of W1 and of W2.
    Gives the reads [N, T, V], the states [N, 2 F, D] and [N, 2 V, F] after them, and their
    weights at the start of the last chunk, [N, F, D] and [N, V, F]. With `keep` also W1
    [N, G, F, D] and the second state [N, G, 2 V, F] at all chunks' starts, the keys' features
    [N, T, F] and the errors [N, T, V]. See `deep_memory`.
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
        keep: bool,
    ) -> tuple[Tensor, ...]:
        """Chunk after chunk."""
        products = Products(log_keep, log_momentum, chunk)
        reads, kept, written = torch.empty_like(v), list[Tensor](), list[_Written]()
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
            if keep:
                one, two = each.first.chunk(2, 1)[0], each.second
                written.append(([one, two.start], [each.keys, two.errors]))
        ctx.products = products
        ctx.save_for_backward(q, k, rate, inner_rate, resets, *kept)
        frozen = (x.chunk(2, 1)[0].clone() for x in starts)
        return reads, first, second, *frozen, *_together(written)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor, first: Tensor, second: Tensor, *others: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The same recurrence from the end to the start."""
        q, k, rate, inner_rate, resets, *flat = ctx.saved_tensors
        products: Products = ctx.products
        frozen, written = others[:2], others[2:]
        grads = [torch.empty_like(x) for x in (q, k, grad, rate, inner_rate)]
        initial = [None, None] if resets is None else [torch.zeros_like(x) for x in (first, second)]
        parts = slices(q.shape[1], products.chunk)
        for index in reversed(range(len(parts))):
            part, kept = parts[index], DeepKept.of(_share(flat, index, len(parts)))
            starts, of_tokens = _grads_of(written, index, part)
            found = deep_chunk_backward(
                q[:, part], k[:, part], (rate[:, part], inner_rate[:, part]),
                kept, grad[:, part], first, second, of_tokens,
            )  # fmt: skip
            products.backward(part, kept.second.spread, found.spread)
            for whole, piece in zip(grads, found[:5], strict=True):
                whole[:, part] = piece
            first, second = found.first, found.second
            for each, more in zip((first.chunk(2, 1)[0], second), starts, strict=False):
                each.add_(more)
            if index == len(parts) - 1:
                for each, last in zip((first, second), frozen, strict=True):
                    each.chunk(2, 1)[0].add_(last)
            if resets is not None:
                reset = resets[:, index, None, None]
                initial = [x + y * reset for x, y in zip(initial, (first, second), strict=True)]
                first, second = first * ~reset, second * ~reset
        *some, by_inner = grads
        return (*some, *products.grads(), by_inner, first, second, *initial, None, None, None)


def _share(flat: list[Tensor], index: int, of: int) -> list[Tensor]:
    """What the `index`-th of so many chunks put into the list."""
    each = len(flat) // of
    return flat[index * each : (index + 1) * each]


def _together(written: list[_Written]) -> list[Tensor]:
    """What chunks began with, [N, G, ...], and what their tokens wrote, [N, T, ...]."""
    starts, tokens = ([each[kind] for each in written] for kind in (0, 1))
    return [
        *(torch.stack(each, 1) for each in zip(*starts, strict=True)),
        *(torch.cat(each, 1) for each in zip(*tokens, strict=True)),
    ]


def _grads_of(written: tuple[Tensor, ...], index: int, part: slice) -> _Written:
    """The share of the `index`-th chunk in gradients of what `_together` gave."""
    half = len(written) // 2
    return [x[:, index] for x in written[:half]], [x[:, part] for x in written[half:]]
