"""All of a set's memory between its projections by a Triton kernel, for inference on a GPU.

B batch, N tokens, W width, H heads, D = W / H head width, F features, K taps. Convolution, SiLU,
unit length, pooled gates, the inner steps of memory/sets.py, the read, and the norm of
`NeuralMemory.output`: one kernel an inner step for the gradients, one more for the read. A
program has a block of tokens of one head of one batch row. What blocks share is the gradients,
which each leaves for all; a program for all tokens would leave most of a GPU idle at batch 1, and
what it holds at a time would not fit. In float32 throughout, whatever is loaded.
"""

# what Triton compiles has no types; its constants are upper case
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls

# ruff: noqa: N803

import triton
import triton.language as tl


@triton.jit
def _convolved(source, taps, channel, t, rows, stride, K: tl.constexpr):
    """SiLU of the causal convolution at tokens t; zeros after the last token."""
    total = tl.zeros((t.shape[0], channel.shape[0]), tl.float32)
    for tap in tl.static_range(K):
        at = (t - tap)[:, None]
        there = (at >= 0) & (t < rows)[:, None]
        x = tl.load(source + at * stride + channel[None, :], mask=there, other=0.0)
        total += x.to(tl.float32) * tl.load(taps + channel * K + tap)[None, :].to(tl.float32)
    return total * tl.sigmoid(total)


@triton.jit
def _unit(x):
    return x / tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)[:, None]


@triton.jit
def _pooled(
    logits, rows, stride,
    MOMENTUM: tl.constexpr, FORGETTING: tl.constexpr, SPAN: tl.constexpr,
):  # fmt: skip
    """keep, eta, theta and the inner rate of the set, from four logits a token."""
    t = tl.arange(0, SPAN)
    there = t < rows
    at = logits + t * stride
    theta = tl.sigmoid(tl.load(at, mask=there, other=0.0).to(tl.float32))
    forget = tl.sigmoid(tl.load(at + 1, mask=there, other=0.0).to(tl.float32))
    momentum = tl.sigmoid(tl.load(at + 2, mask=there, other=0.0).to(tl.float32))
    inner = tl.sigmoid(tl.load(at + 3, mask=there, other=0.0).to(tl.float32))
    if not MOMENTUM:
        momentum *= 0.0
    if not FORGETTING:
        forget *= 0.0
    fresh = tl.where(there, 1 - momentum, 0.0)
    keep = 1 - tl.sum(tl.where(there, forget, 0.0), 0) / rows
    eta = tl.sum(tl.where(there, momentum, 0.0), 0) / rows
    rate, inner_rate = tl.sum(fresh * theta, 0), tl.sum(fresh * inner, 0)
    return keep, eta, rate / rows / rows, inner_rate / rows / rows


@triton.jit
def _learned(w, gradients, parts, keep, eta, rate, STEPS: tl.constexpr, SIZE: tl.constexpr):
    """Weights after inner steps, each with its gradient's shares one after another."""
    momentum = w * 0.0
    for step in tl.static_range(STEPS):
        momentum *= eta
        for part in range(parts):
            momentum -= rate * tl.load(gradients + (step * parts + part) * SIZE)
        w = keep * w + momentum
    return w


@triton.jit
def set_kernel(
    pairs, logits, taps, first, second, norm, gradients, out, rows, heads,
    pairs_batch, pairs_row, logits_batch, logits_row,
    D: tl.constexpr, F: tl.constexpr, K: tl.constexpr, STEP: tl.constexpr, STEPS: tl.constexpr,
    MOMENTUM: tl.constexpr, FORGETTING: tl.constexpr, SPAN: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of inner step STEP; the read, where that is STEPS."""
    batch, head = (tl.program_id(0) // heads).to(tl.int64), tl.program_id(0) % heads
    width, parts = heads * D, tl.num_programs(1)
    pairs += batch * pairs_batch
    logits += batch * logits_batch + head * 4
    gradients += tl.program_id(0).to(tl.int64) * STEPS * parts * 2 * D * F
    keep, eta, rate, inner = _pooled(logits, rows, logits_row, MOMENTUM, FORGETTING, SPAN)
    d, f = tl.arange(0, D), tl.arange(0, F)
    query, key, value = head * D + d, width + head * D + d, 2 * width + head * D + d
    at_1, at_2 = d[:, None] * F + f[None, :], f[:, None] * D + d[None, :]
    w1 = tl.load(first + head * D * F + at_1).to(tl.float32)
    w2 = tl.load(second + head * F * D + at_2).to(tl.float32)
    w2 = _learned(w2, gradients + D * F + at_2, parts, keep, eta, rate, STEP, 2 * D * F)
    t = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if STEP == STEPS:
        w1 = _learned(w1, gradients + at_1, parts, keep, eta, inner, STEP, 2 * D * F)
        q = _unit(_convolved(pairs, taps, query, t, rows, pairs_row, K))
        z = tl.dot(q, w1, input_precision=PRECISION)
        z *= tl.sigmoid(z)
        z *= tl.rsqrt(tl.sum(z * z, 1) + 1e-6)[:, None]
        read = tl.dot(z, w2, input_precision=PRECISION)
        read *= tl.rsqrt(tl.sum(read * read, 1) / D + 1e-5)[:, None]
        read *= tl.load(norm + query)[None, :].to(tl.float32)
        at = out + (batch * rows + t[:, None]) * width + query[None, :]
        tl.store(at, read.to(out.dtype.element_ty), mask=(t < rows)[:, None])
    else:
        k = _unit(_convolved(pairs, taps, key, t, rows, pairs_row, K))
        v = _convolved(pairs, taps, value, t, rows, pairs_row, K)
        z = tl.dot(k, w1, input_precision=PRECISION)
        gate = tl.sigmoid(z)
        inverse = tl.rsqrt(tl.sum(z * gate * z * gate, 1) + 1e-6)[:, None]
        unit = z * gate * inverse
        error = tl.dot(unit, w2, input_precision=PRECISION) - v
        back = tl.dot(error, tl.trans(w2), input_precision=PRECISION)
        back = inverse * (back - unit * tl.sum(unit * back, 1)[:, None])
        back *= gate * (1 + z * (1 - gate))
        share = gradients + (STEP * parts + tl.program_id(1)) * 2 * D * F
        tl.store(share + at_1, tl.dot(tl.trans(k), back, input_precision=PRECISION))
        tl.store(share + D * F + at_2, tl.dot(tl.trans(unit), error, input_precision=PRECISION))
