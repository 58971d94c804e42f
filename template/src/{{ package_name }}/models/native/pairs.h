/* One row's queries, keys and values of some tokens, from projections, as memory_pairs.py has them:
 * convolved, through SiLU, queries and keys of length 1; and the gradients of that.
 *
 * B batch, T tokens, H heads, D head width, W = H D, J taps, at most as many as a chunk has tokens.
 * Row n is head n % H of batch n / H.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include "activation.h"

#define SHORTEST 1e-12f
#define KINDS 3 /* query, key, value, as they stand side by side in the projections */

typedef struct {
    long heads, width, taps;
    long stride;            /* numbers from one batch to the next one */
    const float *projected; /* [B, T, 3 W], or NULL: queries, keys and values are given */
    const float *weights;   /* [J, 3 W] */
} Projections;

INLINE long channels(const Projections *p) { return KINDS * p->heads * p->width; }

INLINE long first_channel(const Projections *p, long row, long kind) {
    return (kind * p->heads + row % p->heads) * p->width;
}

/* Taps that reach a token of the sequence from this one on. */
INLINE long reaching(const Projections *p, long token) {
    return token + 1 < p->taps ? token + 1 : p->taps;
}

/* The convolution at a token, [D]. */
INLINE void convolved(const Projections *p, long row, long token, long kind, float *out) {
    long all = channels(p), first = first_channel(p, row, kind), taps = reaching(p, token);
    const float *x = p->projected + row / p->heads * p->stride + token * all + first;
    const float *weights = p->weights + first;
    for (long i = 0; i < p->width; i += LANES) {
        lanes sum = {0};
        for (long tap = 0; tap < taps; tap++)
            sum += *(const lanes *)(weights + tap * all + i) *
                   *(const lanes *)(x - tap * all + i);
        *(lanes *)(out + i) = sum;
    }
}

INLINE float inverse_length(float square) {
    float length = root(square);
    return 1 / (length > SHORTEST ? length : SHORTEST);
}

/* Those of `size` tokens from `begin` on: [size, D] each at out[query, key, value], and what the
 * convolutions gave at mixed[the same]. */
static void pairs_of(const Projections *p, long row, long begin, long size, float *const *out,
                     float *const *mixed) {
    long width = p->width;
    for (long kind = 0; kind < KINDS; kind++)
        for (long t = 0; t < size; t++) {
            float *from = mixed[kind] + t * width, *to = out[kind] + t * width;
            convolved(p, row, begin + t, kind, from);
            lanes square = {0};
            for (long i = 0; i < width; i += LANES) {
                lanes active = *(lanes *)(from + i) * sigmoid(*(lanes *)(from + i));
                *(lanes *)(to + i) = active;
                square += active * active;
            }
            if (kind < 2) scaled(width, inverse_length(total(square)), to, to, 0);
        }
}

/* The gradient of a convolution [D] in place of itself, from that of what was made of it; what
 * lies along a query or key is lost with its length. `gates` has room for D numbers. */
INLINE void through_length(long width, const float *grad, int unit, float *mixed, float *gates) {
    lanes square = {0}, product = {0};
    for (long i = 0; i < width; i += LANES) {
        lanes gate = sigmoid(*(lanes *)(mixed + i)), active = *(lanes *)(mixed + i) * gate;
        *(lanes *)(gates + i) = gate;
        square += active * active;
        product += active * *(const lanes *)(grad + i);
    }
    float inverse = unit ? inverse_length(total(square)) : 1, along = 0;
    if (unit && inverse * SHORTEST < 1) along = total(product) * inverse * inverse;
    for (long i = 0; i < width; i += LANES) {
        lanes z = *(lanes *)(mixed + i), gate = *(lanes *)(gates + i);
        lanes across = *(const lanes *)(grad + i) - along * z * gate;
        *(lanes *)(mixed + i) = inverse * across * slope(z, gate);
    }
}

/* out += a b, number by number. */
INLINE void add_multiplied(long size, const float *a, const float *b, float *out) {
    for (long i = 0; i < size; i += LANES)
        *(lanes *)(out + i) += *(const lanes *)(a + i) * *(const lanes *)(b + i);
}

/* Gradients of the projections [B, T, 3 W] at some tokens, and more of the row's taps [J, 3, D].
 *
 * mixed[kind] [size + J, D] has what the convolutions gave, and then their gradients at the J - 1
 * tokens after these ones, which reach back to them; in the end it has there those of the first
 * J - 1, for the chunk before. Its last row is room.
 */
static void pairs_backward(const Projections *p, long row, long tokens, long begin, long size,
                           float *const *grad, float *const *mixed, float *by_projected,
                           float *by_weights) {
    long width = p->width, all = channels(p), halo = p->taps - 1, batch = row / p->heads;
    for (long kind = 0; kind < KINDS; kind++) {
        long first = first_channel(p, row, kind);
        const float *x = p->projected + batch * p->stride + begin * all + first;
        float *by_x = by_projected + (batch * tokens + begin) * all + first;
        float *by = mixed[kind], *gates = by + (size + halo) * width;
        for (long t = 0; t < size; t++) {
            through_length(width, grad[kind] + t * width, kind < 2, by + t * width, gates);
            for (long tap = 0; tap < reaching(p, begin + t); tap++)
                add_multiplied(width, by + t * width, x + (t - tap) * all,
                               by_weights + (tap * KINDS + kind) * width);
        }
        for (long t = 0; t < size; t++)
            for (long i = 0; i < width; i += LANES) {
                lanes sum = {0};
                for (long tap = 0; tap < p->taps; tap++)
                    sum += *(const lanes *)(p->weights + tap * all + first + i) *
                           *(lanes *)(by + (t + tap) * width + i);
                *(lanes *)(by_x + t * all + i) = sum;
            }
        for (long i = 0; i < halo * width; i++) by[size * width + i] = by[i];
    }
}

#endif
