"""What a decoded token does between its projections by two Triton kernels, on a GPU.

B batch, R rows of a cache, W width, H heads, D = W / H head width, F features, K taps; attention
and memory have heads of their own. A program has one head of one batch row: of attention it turns
query and key, writes key and value into the cache and attends to all rows; of memory it convolves,
writes the pair into the state (where the pass writes) and reads. In float32 throughout, whatever
is loaded; by sums and not by tensor cores, as one token is no matrix.
"""

# what Triton compiles has no types; its constants are upper case
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def _turned(at, d, cos, sin, kind, D: tl.constexpr):
    """`rotary.turned` of a row of D, rounded as what is kept of other tokens."""
    x, other = tl.load(at + d).to(tl.float32), tl.load(at + (d + D // 2) % D).to(tl.float32)
    return (x * cos + tl.where(d < D // 2, -other, other) * sin).to(kind)


@triton.jit
def attend_kernel(
    columns, keys, values, row, cos, sin, unseen, out, rows, heads, stride,
    D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax over blocks of rows, one after another (Milakov and Gimelshein 2018).

    Each row of a block has sums of its own until the end, so that no block waits for a total.
    """
    batch, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    kind = keys.dtype.element_ty
    d, width, taken = tl.arange(0, D), heads * D, tl.load(row)
    columns += batch * stride + head * D
    c, s = tl.load(cos + d % (D // 2)), tl.load(sin + d % (D // 2))
    query = _turned(columns, d, c, s, kind, D).to(tl.float32) * (D**-0.5)
    key = _turned(columns + width, d, c, s, kind, D)
    value = tl.load(columns + 2 * width + d).to(kind)
    keys += tl.program_id(0).to(tl.int64) * rows * D
    values += tl.program_id(0).to(tl.int64) * rows * D
    tl.store(keys + taken * D + d, key)
    tl.store(values + taken * D + d, value)
    most, total = tl.full((BLOCK,), -1e30, tl.float32), tl.zeros((BLOCK,), tl.float32)
    read = tl.zeros((BLOCK, D), tl.float32)
    for start in range(0, rows, BLOCK):
        r = start + tl.arange(0, BLOCK)
        at, there, new = r[:, None] * D + d[None, :], r < rows, (r == taken)[:, None]
        # the new row is in registers: what was stored above may not have arrived
        k = tl.where(new, key[None, :], tl.load(keys + at, mask=there[:, None], other=0.0))
        v = tl.where(new, value[None, :], tl.load(values + at, mask=there[:, None], other=0.0))
        score = tl.sum(k.to(tl.float32) * query[None, :], 1)
        score += tl.load(unseen + r, mask=there, other=float("-inf")).to(tl.float32)
        above = tl.maximum(most, score)
        share, kept = tl.exp(score - above), tl.exp(most - above)
        read = read * kept[:, None] + share[:, None] * v.to(tl.float32)
        total, most = total * kept + share, above
    share = tl.exp(most - tl.max(most, 0))
    read = tl.sum(read * share[:, None], 0) / tl.sum(total * share, 0)
    tl.store(out + batch * width + head * D + d, read.to(out.dtype.element_ty))


@triton.jit
def _convolved(columns, tail, taps, channel, channels, K: tl.constexpr):
    """SiLU of the convolution at the token, which then is the last one of the tail."""
    x = tl.load(columns + channel)
    total = x.to(tl.float32) * tl.load(taps + channel * K).to(tl.float32)
    for tap in tl.static_range(1, K):
        before = tl.load(tail + (K - 1 - tap) * channels + channel).to(tl.float32)
        total += before * tl.load(taps + channel * K + tap).to(tl.float32)
    for place in tl.static_range(K - 2):
        later = tl.load(tail + (place + 1) * channels + channel)
        tl.debug_barrier()  # all have loaded what the next ones write over
        tl.store(tail + place * channels + channel, later)
    if K > 1:
        tl.debug_barrier()
        tl.store(tail + (K - 2) * channels + channel, x)
    return total * tl.sigmoid(total)


@triton.jit
def _unit(x):
    return x / tl.maximum(tl.sqrt(tl.sum(x * x, 0)), 1e-12)


@triton.jit
def _features(z):
    active = z * tl.sigmoid(z)
    return active * tl.rsqrt(tl.sum(active * active, 0) + 1e-6)


@triton.jit
def _features_back(z, grad):
    """`features_backward` of memory/features.py."""
    gate = tl.sigmoid(z)
    active = z * gate
    inverse = tl.rsqrt(tl.sum(active * active, 0) + 1e-6)
    unit = active * inverse
    return inverse * (grad - unit * tl.sum(unit * grad, 0)) * gate * (1 + z * (1 - gate))


@triton.jit
def _written(weights, momentum, at, inputs, error, rate, keep, eta):
    """A layer's weights after `step_layer` of memory/linear.py, which it leaves in place."""
    moved = eta * tl.load(momentum + at) - rate * inputs[:, None] * error[None, :]
    learned = keep * tl.load(weights + at) + moved
    tl.store(momentum + at, moved)
    tl.store(weights + at, learned)
    return learned


@triton.jit
def _through(x, weights):
    return tl.sum(x[:, None] * weights, 0)


@triton.jit
def recall_kernel(
    columns, logits, tail, taps, norm, out, first, first_momentum, second, second_momentum,
    frozen_first, frozen_second, heads, stride, channels, chunk,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, WRITES: tl.constexpr, DEEP: tl.constexpr,
    MOMENTUM: tl.constexpr, FORGETTING: tl.constexpr,
):  # fmt: skip
    """A token through `deep_step` or `linear_step`, whose layer is the second; or read alone."""
    batch, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    width, place = heads * D, tl.program_id(0).to(tl.int64) * D * F
    d, f = tl.arange(0, D), tl.arange(0, F)
    columns += batch * stride
    tail += batch * (K - 1) * channels
    query = head * D + d
    at_first, at_second = place + d[:, None] * F + f[None, :], place + f[:, None] * D + d[None, :]
    q = _unit(_convolved(columns, tail, taps, query, channels, K))
    hidden = tl.zeros((D, F), tl.float32)
    if DEEP:
        hidden = tl.load(frozen_first + at_first)
    if WRITES:
        k = _unit(_convolved(columns, tail, taps, width + query, channels, K))
        v = _convolved(columns, tail, taps, 2 * width + query, channels, K)
        gates = logits + batch * stride + head * (4 if DEEP else 3)
        theta = tl.sigmoid(tl.load(gates).to(tl.float32))
        keep, eta, fresh = 1.0, 0.0, 1.0
        if FORGETTING:
            keep = tl.sigmoid(-tl.load(gates + 1).to(tl.float32))
        if MOMENTUM:
            past = tl.load(gates + 2).to(tl.float32)
            eta, fresh = tl.sigmoid(past), tl.sigmoid(-past)
        inputs = k
        if DEEP:
            z = _through(k, hidden)
            inputs = _features(z)
        error = _through(inputs, tl.load(second + at_second)) - v
        if DEEP:
            back = tl.sum(tl.load(frozen_second + at_second) * error[None, :], 1)
            inner = fresh * tl.sigmoid(tl.load(gates + 3).to(tl.float32)) / chunk
            back = _features_back(z, back)
            _written(first, first_momentum, at_first, k, back, inner, keep, eta)
        learned = _written(
            second, second_momentum, at_second, inputs, error, fresh * theta, keep, eta
        )
    else:
        learned = tl.load(second + at_second)
    if DEEP:
        q = _features(_through(q, hidden))
    read = _through(q, learned)
    read *= tl.rsqrt(tl.sum(read * read, 0) / D + 1e-5) * tl.load(norm + query).to(tl.float32)
    tl.store(out + batch * width + query, read.to(out.dtype.element_ty))
