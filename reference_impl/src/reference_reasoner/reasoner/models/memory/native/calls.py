"""The memories of cpu/chunks.py by the C of the folder c/, for compiled models on CPUs.

A chunk of one row is a dozen products so small that asking torch for one takes as long as
computing it; the C does all chunks of a row in one call, in the cache of one core, and rows side
by side on as many threads as torch has. Shapes are those of cpu/chunks.py; C holds a state
the other way round, see arguments.py.

Tokens come as (q, k, v, rate, log_keep, log_momentum), and of a deep memory inner_rate. Or, with
`heads`, as (x [B, T, I], matrix [3 W, I], taps [3 W, J], rate ...): projections, queries, keys and
values are then made chunk by chunk, too, see whole_layer.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import is_fake
from torch.nn.functional import pad

from .arguments import Back, Given, Grads, Results, by_token
from .library import UNIT, call, is_built


def native_serves(tokens: Sequence[Tensor], states: Sequence[Tensor], chunk: int) -> bool:
    """Whether C stands in for torch with these inputs, of which all are of one kind."""
    sizes = [chunk, *(size for state in states for size in (state.shape[1] // 2, state.shape[2]))]
    plain = tokens[0].dtype == torch.float32 and tokens[0].device.type == "cpu"
    return plain and all(size % UNIT == 0 for size in sizes) and is_built()


def native_forward(
    tokens: Sequence[Tensor],
    states: Sequence[Tensor],
    initial: Sequence[Tensor],
    resets: Tensor | None,
    chunk: int,
    *,
    training: bool,
    keep: bool,
    heads: int = 0,
    logs: bool = True,
) -> list[Tensor]:
    """The results of cpu/chunks.py, and after them what training needs.

    That is chunks' starts, errors and, with `heads`, the projections [B, T, 3 W]. `logs` says
    whether the gates of the state come as logarithms.
    """
    deep, (rows, length) = len(states) == 2, tokens[3].shape
    after = [_flipped(state) for state in states]
    # a deep memory's results have the last start in any case
    chunks = length // chunk
    kept = chunks if training or keep else int(deep)
    starts = [x.new_empty(rows, kept, *x.shape[1:]) for x in after]
    read = tokens[0].new_empty(rows, length, after[-1].shape[2] // 2)
    errors = torch.empty_like(read) if training or keep else None
    unit = read.new_empty(rows, length, after[-1].shape[1]) if deep and keep else None
    projected = None  # C needs them whole for training, and for rows that do not share out evenly
    if heads and (training or rows % torch.get_num_threads()):
        projected = read.new_empty(rows // heads, length, len(tokens[1]))
    if not is_fake(read):
        first, second = _layers(after)
        firsts, seconds = _layers(starts if kept else [])
        results = Results.of(
            first=first, second=second, read=read, errors=errors, unit=unit,
            first_starts=firsts, second_starts=seconds, begin=chunks - kept,
        )  # fmt: skip
        flipped = [_flipped(x) for x in initial]
        given = _given(tokens, flipped, resets, chunk, after, heads, projected, logs)
        call("memory_forward", given, results)
    found = [read, *(x.mT for x in after)]
    if deep:
        found += [_weights(x[:, -1]).mT for x in starts]
    if errors is not None and keep:
        found += [_weights(x).mT for x in starts[:-1]] + [starts[-1].mT]
        # no result may be in the memory of another one
        found += [errors.clone()] if unit is None else [unit, errors.clone()]
    if errors is not None and training:
        found += [*starts, errors]
        found += [] if projected is None else [projected]
    return found


def native_backward(
    tokens: Sequence[Tensor],
    resets: Tensor | None,
    saved: Sequence[Tensor],
    grads: Sequence[Tensor],
    heads: int = 0,
) -> list[Tensor]:
    """Gradients of the tokens, the states and, with resets, the initial ones.

    `saved` is what `native_forward` gave for training, `grads` those of the results before it.
    With `heads` the first two are those of the projections and of the taps.
    """
    projected = saved[-1] if heads else None
    *starts, errors = saved[:-1] if heads else saved
    layers, chunks = len(starts), starts[0].shape[1]
    by_states = [_flipped(x) for x in grads[1 : 1 + layers]]
    by_starts, by_tokens = _of_starts(starts, grads[1 + layers :])
    by_initial = [] if resets is None else [torch.zeros_like(x) for x in by_states]
    if projected is None:
        by_inputs = [x.new_empty(x.shape) for x in tokens]
    else:  # of the taps row by row
        by_taps = errors.new_empty(len(errors), tokens[2].shape[1], 3, errors.shape[2])
        by_inputs = [torch.empty_like(projected), by_taps]
        by_inputs += [x.new_empty(x.shape) for x in tokens[3:]]
    if not is_fake(errors):
        names = ("projected", "weights") if heads else ("q", "k", "v")
        named = zip((*names, "rate", "keep", "eta", "inner_rate"), by_inputs, strict=False)
        (first, second), initial = _layers(by_states), _layers(by_initial)
        by = Grads.of(
            first=first, second=second, first_initial=initial[0], second_initial=initial[1],
            **dict(named),
        )  # fmt: skip
        (firsts, seconds), by_of_starts = _layers(starts), _layers(by_starts)
        by_unit, by_errors = _layers(by_tokens)
        back = Back.of(
            first_starts=firsts, second_starts=seconds, errors=errors,
            by_read=grads[0].contiguous(), by_errors=by_errors, by_unit=by_unit,
            by_first_starts=by_of_starts[0], by_second_starts=by_of_starts[1],
            begin=chunks - (by_starts[0].shape[1] if by_starts else 0),
        )  # fmt: skip
        size = errors.shape[1] // chunks
        given = _given(tokens, [], resets, size, by_states, heads, projected)
        given.x = None  # what it projects to is there
        call("memory_backward", given, back, by)
    if heads:
        by_rows = by_inputs[1].view(-1, heads, *by_inputs[1].shape[1:]).sum(0)  # [H, J, 3, D]
        by_inputs[1] = by_rows.permute(2, 0, 3, 1).reshape(tokens[2].shape)
    return [*by_inputs, *(x.mT for x in (*by_states, *by_initial))]


def _of_starts(
    starts: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the states at chunks' starts, of the last one alone or all, and of tokens.

    From those of the results after the states: of a deep memory both weights at the last start,
    and where all were kept the starts, the keys' features (deep) and the errors.
    """
    layers = len(starts)
    frozen = [_beside_nothing(x)[:, None] for x in (grads[:2] if layers == 2 else [])]
    written = grads[len(frozen) :]
    if not written:
        return frozen, []
    found = [_beside_nothing(x) for x in written[: layers - 1]] + [_flipped(written[layers - 1])]
    for each, last in zip(found, frozen, strict=False):
        each[:, -1:] += last
    return found, [x.contiguous() for x in written[layers:]]


def _given(
    tokens: Sequence[Tensor],
    initial: Sequence[Tensor],
    resets: Tensor | None,
    chunk: int,
    states: Sequence[Tensor],
    heads: int,
    projected: Tensor | None,
    logs: bool = True,
) -> Given:
    one, two, three = tokens[:3]
    asked = _projections(one, two, three, heads) if heads else _pairs(one, two, three)
    rate, keep, momentum, *inner = (x.contiguous() for x in tokens[3:])
    if logs:
        keep, momentum = keep.exp(), momentum.exp()
    first, second = _layers(initial)
    width = states[0].shape[1]
    return Given.of(
        threads=torch.get_num_threads(), rows=rate.shape[0], tokens=rate.shape[1], size=chunk,
        keys=width, features=states[-1].shape[1] if inner else 0, values=states[-1].shape[2] // 2,
        rate=rate, keep=keep, eta=momentum,
        inner_rate=inner[0] if inner else None,
        resets=None if resets is None else resets.contiguous(),
        first_initial=first, second_initial=second, projected=projected,
        **asked,
    )  # fmt: skip


def _pairs(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor | int]:
    return {"q": q.contiguous(), "k": k.contiguous(), "v": v.contiguous()}


def _projections(x: Tensor, matrix: Tensor, taps: Tensor, heads: int) -> dict[str, Tensor | int]:
    channels, count = taps.shape
    x = by_token(x)
    return {
        "heads": heads, "width": channels // 3 // heads, "taps": count, "inputs": x.shape[2],
        "stride": x.stride(0), "x": x, "matrix": matrix.contiguous(),
        "weights": taps.T.contiguous(),
    }  # fmt: skip


def _layers(some: Sequence[Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """Of a deep memory, of a linear one (None and a tensor) or nothing."""
    first, second = ([None, None, *some])[-2:]
    return first, second


def _flipped(state: Tensor) -> Tensor:
    """[..., 2 V, D] -> [..., D, 2 V], in memory of its own."""
    return state.mT.clone(memory_format=torch.contiguous_format)


def _weights(state: Tensor) -> Tensor:
    """M, [..., D, V], of a state [..., D, 2 V]."""
    return state.chunk(2, -1)[0]


def _beside_nothing(weights: Tensor) -> Tensor:
    """The gradient of a state [..., D, 2 V] from that of M [..., V, D] alone."""
    return pad(weights.mT, (0, weights.shape[-2])).contiguous()
