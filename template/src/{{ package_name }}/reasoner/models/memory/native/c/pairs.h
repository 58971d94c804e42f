/* One row's queries, keys and values of some tokens, from projections, as cpu/heads_by_block.py has them:
 * convolved, through SiLU, queries and keys of length 1; and the gradients of that. Notation as in
 * projections.h.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include "activation.h"
#include "projections.h"

#define SHORTEST 1e-12f

INLINE long first_channel(const Projections *p, long row, long kind) {
    return (kind * p->heads + row % p->heads) * p->width;
}

/* Taps that reach a token of the sequence from this one on. */
INLINE long reaching(const Projections *p, long token) {
    return token + 1 < p->taps ? token + 1 : p->taps;
}

INLINE float inverse_length(float square) {
    float length = root(square);
    return 1 / (length > SHORTEST ? length : SHORTEST);
}

/* A token's pair at `out` from its projections at x, those of other tokens `apart` from it, and what
 * the convolution gives at `mixed`. */
INLINE void pair_of(long width, long taps, const float *x, long apart, const float *weights,
                    long weights_apart, int unit, float *mixed, float *out) {
    lanes square = {0};
    for (long i = 0; i < width; i += LANES) {
        lanes sum = {0};
        for (long tap = 0; tap < taps; tap++)
            sum += *(const lanes *)(weights + tap * weights_apart + i) *
                   *(const lanes *)(x - tap * apart + i);
        lanes active = sum * sigmoid(sum);
        *(lanes *)(mixed + i) = sum;
        *(lanes *)(out + i) = active;
        square += active * active;
    }
    if (unit) scaled(width, inverse_length(total(square)), out, out, 0);
}

#define USUAL 4 /* taps; that many in a row are unrolled */

/* Those of `size` tokens from `begin` on: [size, D] each at out[query, key, value], and what the
 * convolutions gave at mixed[the same]. */
static void pairs_of(const Projections *p, Projected given, long row, long begin, long size,
                     float *const *out, float *const *mixed) {
    long width = p->width, all = channels(p);
    for (long kind = 0; kind < KINDS; kind++) {
        const float *x = given.at + kind * given.apart;
        const float *weights = p->weights + first_channel(p, row, kind);
        for (long t = 0; t < size; t++, x += given.row) {
            float *from = mixed[kind] + t * width, *to = out[kind] + t * width;
            long taps = reaching(p, begin + t);
            if (taps == USUAL)
                pair_of(width, USUAL, x, given.row, weights, all, kind < 2, from, to);
            else
                pair_of(width, taps, x, given.row, weights, all, kind < 2, from, to);
        }
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
    long width = p->width, all = channels(p), halo = p->taps - 1;
    Projected kept = kept_at(p, row, tokens, begin);
    float *from = by_projected + (kept.at - p->projected);
    for (long kind = 0; kind < KINDS; kind++) {
        long first = first_channel(p, row, kind);
        const float *x = kept.at + kind * kept.apart;
        float *by_x = from + kind * kept.apart;
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
