"""A memory that is one matrix, M(k) = k M, written exactly token by token but computed in chunks.

N rows (batch times heads), T tokens, C tokens of a chunk, D key width, V value width.
Gates and S, the momentum, are those of gates.py. The error of token t,
e_t = k_t M_{t-1} - v_t, depends on the errors before it through M_{t-1}, and linearly so:

    (I + L) e = keep_{t-1} K M_0 + carry_{t-1} K S_0 - V,    L_tj = spread_{t-1,j} theta_j k_t.k_j

L is strictly lower triangular, so one triangular solve gives all errors of a chunk, and the
result does not depend on where chunks begin. This is the chunk form of DeltaNet (Yang et al.
2024, Parallelizing Linear Transformers with the Delta Rule) with momentum added; the paper on
Titans (section 3.2) takes all gradients at the chunk's start instead. u_t = k_t^T e_t has rank 1:
no token's weights are ever stored.
"""

import torch
from torch import Tensor

from .gates import Decay, Gates, check_chunks, chunked, decay_of, parts
from .solve import TORCH, Sums, carried_on, solve
from .state import LinearState
from .written import Writes, read_layer, shared, twice


def linear_memory(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: LinearState,
    *,
    chunk: int,
    initial: LinearState | None = None,
    resets: Tensor | None = None,
    keep: bool = False,
    sums: Sums = TORCH,
) -> tuple[Tensor, LinearState, list[Writes]]:
    """Write each token into a linear memory, then read it: o_t = q_t M_t (Titans, eq. 11-15).

    Args:
        q: queries [N, T, D], float32 or float64 like everything else here.
        k: keys [N, T, D]; of length at most 1, or theta must be smaller accordingly.
        v: values [N, T, V].
        gates: of each token, [N, T].
        state: what the memory holds before the first token.
        chunk: tokens that are computed together; it changes the speed and not the result.
        initial: what a reset sets the state to.
        resets: bool [N, T / chunk]; True sets the row's state to `initial` before that chunk.
        keep: give what was written, too, for later reads; an empty list without.
        sums: what solves for errors and carries the state on.

    Returns:
        What the tokens read, [N, T, V], the state after the last one, and what was written.

    Raises:
        ValueError: `chunk` is below 1; or `resets` come without `initial`, or with a number of
            columns other than T / chunk.
    """
    check_chunks(q.shape[1], chunk, initial, resets)
    reads, kept = [q[:, :0] @ state.weights], []
    for part, size in parts(q.shape[1], chunk):
        some = Gates(*(chunked(gate[:, part], size) for gate in gates))
        keys, values = chunked(k[:, part], size), chunked(v[:, part], size)
        writes, state = _scan(keys, values, some, state, initial, resets, sums)
        reads.append(read_layer(chunked(q[:, part], size), writes).flatten(1, 2))
        if keep:
            kept.append(writes)
    return torch.cat(reads, 1), state, kept


def surprise(k: Tensor, v: Tensor, state: LinearState) -> Tensor:
    """||k M - v||, how badly the memory knows each pair: [N, T, D], [N, T, V] -> [N, T]."""
    return torch.linalg.vector_norm(k @ state.weights - v, dim=-1)


def coupling(k: Tensor, decay: Decay) -> Tensor:
    """L [..., C, C]: how the error of token j changes that of a later token t; keys [..., C, D]."""
    return (k @ k.mT) * decay.found_spread


def exact_system(k: Tensor, v: Tensor, decay: Decay, stacked: Tensor) -> tuple[Tensor, Tensor]:
    """L [N, C, C] and b of one chunk's errors e, (I + L) e = b [N, C, V]; [M; S] [N, 2 D, V]."""
    found = twice(k, decay.found_keep, decay.found_carry)
    return coupling(k, decay), found @ stacked - v


def write_layer(
    inputs: Tensor, errors: Tensor, decay: Decay, rate: Tensor, stacked: Tensor
) -> Tensor:
    """[M; S] [N, 2 D, V] at the chunk's end; `rate` [N, C] is the layer's own."""
    weights, momentum = stacked.chunk(2, 1)
    kept = decay.keep[:, -1, None, None] * weights + decay.carry[:, -1, None, None] * momentum
    old = torch.cat([kept, decay.coast[:, None, None] * momentum], 1)
    return torch.baddbmm(old, _writes(inputs, decay, rate), errors, alpha=-1)


def _writes(inputs: Tensor, decay: Decay, rate: Tensor) -> Tensor:
    """[..., 2 D, C]: what a unit error of each token takes from M and S by the chunk's end."""
    return twice(inputs, decay.last * rate, decay.trace * rate).mT


def _scan(
    k: Tensor,
    v: Tensor,
    gates: Gates,
    state: LinearState,
    initial: LinearState | None,
    resets: Tensor | None,
    sums: Sums,
) -> tuple[Writes, LinearState]:
    """Whole chunks: all but the state is computed at once, then one kernel a chunk carries it on.

    With Z = [M; S] a chunk is Z' = step Z + push, and its errors are `known` Z - `missing`.
    """
    decay = decay_of(gates)
    found = twice(k, decay.found_keep, decay.found_carry)
    solved = solve(coupling(k, decay), torch.cat([found, v], -1), sums.substitute)
    known, missing = torch.split(solved, [2 * k.shape[-1], v.shape[-1]], -1)
    writes = _writes(k, decay, gates.rate)
    steps = _undisturbed(decay, k.shape[-1]) - writes @ known
    pushes = writes @ missing
    start = None if initial is None else torch.cat(initial, 1)
    all_starts, stacked = carried_on(steps, pushes, torch.cat(state, 1), start, resets, sums.recur)
    errors = known @ all_starts - missing
    return shared(k, errors, all_starts, decay), LinearState(*stacked.chunk(2, 1))


def _undisturbed(decay: Decay, width: int) -> Tensor:
    """[..., 2 D, 2 D]: what a chunk does to [M; S] where nothing is written."""
    zero = torch.zeros_like(decay.coast)
    rows = [decay.keep[..., -1], decay.carry[..., -1], zero, decay.coast]
    blocks = torch.stack(rows, -1).reshape(*zero.shape, 2, 2)
    unit = torch.eye(width, dtype=zero.dtype, device=zero.device)
    return (blocks[..., :, None, :, None] * unit[:, None, :]).flatten(-2).flatten(-3, -2)
