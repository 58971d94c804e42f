/* What a chunk's gates do to old weights and to each token's write, and the gradients of that.
 *
 * As in gates.py, but by recurrence from token to token: products of gates, so that a gate
 * of 0 needs no case of its own. M_t = m_t M_0 + c_t S_0 - sum_j spread_tj theta_j u_j, and
 * S_t = s_t S_0 - sum_j moved_tj theta_j u_j. A token's key reads M_{t-1}, its query M_t.
 */
#ifndef DECAY_H
#define DECAY_H

#include "lanes.h"

typedef struct {
    const float *keep, *eta;     /* [C] 1 - alpha, and eta */
    float *spread, *moved;       /* [C, C]; 0 for tokens that come later */
    float *weights, *momentum;   /* [C] m and c; at -1, as before all tokens, 1 and 0 */
    float *coast;                /* [C] s; at -1 1 */
} Decay;

/* Gradients, first of what keys read (C), then of what queries do (C). */
typedef struct {
    float *spread;                        /* [2 C, C] */
    float *weights, *momentum;            /* [2 C] */
    float *ends, *traces;                 /* [C] of the last rows of spread and moved */
    float *last;                          /* [3] of M_0 in M_C, of S_0 in M_C and in S_C */
} DecayGrads;

static void decay_of(long size, Decay d) {
    d.weights[-1] = d.coast[-1] = 1;
    d.momentum[-1] = 0;
    for (long t = 0; t < size; t++) {
        float *spread = d.spread + t * size, *moved = d.moved + t * size;
        if (t) {
            scaled(size, d.eta[t], moved - size, moved, 0);
        } else {
            for (long j = 0; j < size; j++) moved[j] = 0;
        }
        moved[t] = 1;
        if (t) {
            for (long j = 0; j < size; j += LANES)
                *(lanes *)(spread + j) =
                    d.keep[t] * *(lanes *)(spread - size + j) + *(lanes *)(moved + j);
        } else {
            for (long j = 0; j < size; j++) spread[j] = moved[j];
        }
        d.coast[t] = d.eta[t] * d.coast[t - 1];
        d.weights[t] = d.keep[t] * d.weights[t - 1];
        d.momentum[t] = d.keep[t] * d.momentum[t - 1] + d.coast[t];
    }
}

/* Gradients of the logarithms of `keep` and `eta`; `ends` and `traces` are overwritten. */
static void decay_backward(long size, Decay d, DecayGrads g, float *by_keep, float *by_eta) {
    float *rows = g.ends, *moves = g.traces; /* of spread_t and of moved_t, over later tokens */
    float weights = g.last[0], momentum = g.last[1], coast = g.last[2];
    for (long t = size - 1; t >= 0; t--) {
        const float *asked = g.spread + (size + t) * size;
        for (long j = 0; j < size; j += LANES) {
            lanes row = *(lanes *)(rows + j) + *(const lanes *)(asked + j);
            *(lanes *)(rows + j) = row;
            *(lanes *)(moves + j) += row;
        }
        weights += g.weights[size + t];
        momentum += g.momentum[size + t];
        coast += momentum;
        float keep = weights * d.weights[t - 1] + momentum * d.momentum[t - 1];
        float eta = coast * d.coast[t - 1];
        if (t) {
            keep += dot(size, rows, d.spread + (t - 1) * size);
            eta += dot(size, moves, d.moved + (t - 1) * size);
        }
        by_keep[t] = keep * d.keep[t];
        by_eta[t] = eta * d.eta[t];
        const float *found = g.spread + t * size;
        for (long j = 0; j < size; j += LANES) {
            *(lanes *)(rows + j) = d.keep[t] * *(lanes *)(rows + j) + *(const lanes *)(found + j);
            *(lanes *)(moves + j) *= d.eta[t];
        }
        weights = d.keep[t] * weights + g.weights[t];
        momentum = d.keep[t] * momentum + g.momentum[t];
        coast *= d.eta[t];
    }
}

#endif
