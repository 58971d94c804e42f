/* The gradients of a chunk of the exact linear memory of one row; see linear_chunk.h. */
#ifndef LINEAR_BACKWARD_H
#define LINEAR_BACKWARD_H

#include "linear_chunk.h"

typedef struct {
    float *k, *q; /* [C, D] */
    float *v;     /* [C, V] */
    float *rate;  /* [C] */
    DecayGrads decay;
} ChunkGrads;

/* Room for the way back, beside that of the way there. */
typedef struct {
    Room room;
    float *scores;  /* [2 C, C] */
    float *by_mix;  /* [2 C, C] */
    float *pulled;  /* [C, 2 V] what keys find in the gradient of the state after the chunk */
    float *taking;  /* [C, V] gradients of the writes */
    float *reading; /* [2 C, V] gradients of what was read of M_{t-1} by keys, of M_t by queries */
    float *minus;   /* [V, C] the writes, negative, transposed */
    float *columns; /* [2 V, D] a state, transposed */
    float *by_old;  /* [2 C, 2 D] `reading` through M_0, and beside it through S_0 */
} BackRoom;

static long back_room_for(long size, long keys, long values) {
    return room_for(size, keys, values) + 4 * size * size + 6 * size * values + 2 * values * keys +
           4 * size * keys;
}

static BackRoom back_room_at(float *at, long size, long keys, long values) {
    BackRoom back;
    back.room = room_at(at, size, keys, values);
    back.scores = at + room_for(size, keys, values);
    back.by_mix = back.scores + 2 * size * size;
    back.pulled = back.by_mix + 2 * size * size;
    back.taking = back.pulled + 2 * size * values;
    back.reading = back.taking + size * values;
    back.minus = back.reading + 2 * size * values;
    back.columns = back.minus + size * values;
    back.by_old = back.columns + 2 * values * keys;
    return back;
}

/* The way back from `fade`: gradients of the shares, and in place that of the state [D, 2 V]. */
static void fade_backward(Chunk c, long keys, long values, const float *state, float *grad,
                          DecayGrads by) {
    long last = c.size - 1;
    float weights = c.decay.weights[last], momentum = c.decay.momentum[last];
    float coast = c.decay.coast[last];
    lanes of_weights = {0}, of_momentum = {0}, of_coast = {0};
    for (long i = 0; i < keys; i++, state += 2 * values, grad += 2 * values)
        for (long j = 0; j < values; j += LANES) {
            lanes first = *(lanes *)(grad + j), second = *(lanes *)(grad + values + j);
            of_weights += first * *(const lanes *)(state + j);
            of_momentum += first * *(const lanes *)(state + values + j);
            of_coast += second * *(const lanes *)(state + values + j);
            *(lanes *)(grad + j) = weights * first;
            *(lanes *)(grad + values + j) = momentum * first + coast * second;
        }
    by.last[0] += total(of_weights);
    by.last[1] += total(of_momentum);
    by.last[2] += total(of_coast);
}

/* The substitution from its other side: `taking`, gradients of values and rates, and `reading`. */
static void substitute_back(Chunk c, BackRoom back, const float *errors, const float *by_errors,
                            ChunkGrads by) {
    long size = c.size, values = c.values;
    for (long t = size - 1; t >= 0; t--) {
        float *taking = back.taking + t * values, *reading = back.reading + t * values;
        take_rows(size - t - 1, back.room.mixes + (t + 1) * size + t, size, reading + values,
                  values, taking);
        for (long i = 0; i < values; i += LANES) {
            lanes sum = c.rate[t] * *(lanes *)(taking + i);
            if (by_errors) sum += *(const lanes *)(by_errors + t * values + i);
            *(lanes *)(reading + i) = sum;
            *(lanes *)(by.v + t * values + i) = -sum;
        }
        by.rate[t] = dot(values, errors + t * values, taking);
        scaled(values, -c.rate[t], errors + t * values, back.room.writes + t * values, 0);
    }
}

/* Gradients of spread and, in place of those of the mixes, of the scores. */
INLINE void by_scores_of(Chunk c, BackRoom back, float *by_spread) {
    long size = c.size, all = size * size;
    for (long i = 0; i < 2 * all; i += LANES)
        *(lanes *)(by_spread + i) = *(lanes *)(back.by_mix + i) * *(lanes *)(back.scores + i);
    mixed(size, back.by_mix, c.decay.spread, back.by_mix);
}

/* Gradients of keys and queries through what they read of the state before the chunk. */
static void by_old_state(Chunk c, const float *state, BackRoom back, ChunkGrads by) {
    long size = c.size, keys = c.keys, values = c.values, wide = 2 * keys;
    transpose(keys, 2 * values, state, 2 * values, back.columns, keys);
    for (long half = 0; half < 2; half++)
        product(2 * size, keys, values, plain(back.reading, values),
                back.columns + half * values * keys, keys, back.by_old + half * keys, wide);
    for (long t = 0; t < size; t++) {
        const float *key = back.by_old + t * wide, *query = back.by_old + (size + t) * wide;
        const float *k = c.k + t * keys, *q = c.q + t * keys;
        Decay d = c.decay;
        weighted(keys, key, d.weights[t - 1], d.momentum[t - 1], by.k + t * keys);
        weighted(keys, query, d.weights[t], d.momentum[t], by.q + t * keys);
        by.decay.weights[t] = dot(keys, k, key);
        by.decay.momentum[t] = dot(keys, k, key + keys);
        by.decay.weights[size + t] = dot(keys, q, query);
        by.decay.momentum[size + t] = dot(keys, q, query + keys);
    }
}

/* Gradients of ends, traces and keys through writes [C, V], negative, into the next state. */
static void by_taken(Chunk c, long keys, long values, const float *minus, const float *pulled,
                     const float *grad, float *both, float *columns, float *by_k,
                     DecayGrads by) {
    long size = c.size, last = (size - 1) * size;
    for (long t = 0; t < size; t++) {
        const float *write = minus + t * values, *pull = pulled + t * 2 * values;
        by.ends[t] += dot(values, write, pull);
        by.traces[t] += dot(values, write, pull + values);
        twice(values, write, c.decay.spread[last + t], c.decay.moved[last + t],
              both + t * 2 * values);
    }
    transpose(keys, 2 * values, grad, 2 * values, columns, keys);
    add_product(size, keys, 2 * values, plain(both, 2 * values), columns, keys, by_k, keys);
}

/* Add to the gradient [D, 2 V] of a state what tokens [C, D] pass on of `reading` [C, V]. */
static void add_reads(Chunk c, const float *tokens, const float *reading, const float *weights,
                      const float *momentum, float *both, float *grad) {
    long size = c.size, keys = c.keys, values = c.values, wide = 2 * values;
    for (long t = 0; t < size; t++)
        twice(values, reading + t * values, weights[t], momentum[t], both + t * wide);
    add_product(keys, wide, size, turned(tokens, keys), both, wide, grad, wide);
}

/* From the gradients of reads [C, V], of errors (or NULL) and, in place, of the state after. */
static void chunk_backward(Chunk c, const float *state, const float *errors, const float *grad,
                           const float *by_errors, BackRoom back, ChunkGrads by, float *by_state) {
    long size = c.size, keys = c.keys, values = c.values, wide = 2 * values;
    long last = (size - 1) * size;
    Room room = back.room;
    Decay d = c.decay;
    transpose(size, keys, c.k, keys, room.turned, size);
    scores_of(c, room.turned, back.scores);
    mixed(size, back.scores, d.spread, room.mixes);
    product(size, wide, keys, plain(c.k, keys), by_state, wide, back.pulled, wide);
    for (long t = 0; t < size; t++)
        weighted(values, back.pulled + t * wide, -d.spread[last + t], -d.moved[last + t],
                 back.taking + t * values);
    take_lower_turned(size, values, room.mixes + size * size, grad, back.taking);
    substitute_back(c, back, errors, by_errors, by);
    for (long i = 0; i < size * values; i += LANES)
        *(lanes *)(back.reading + size * values + i) = *(const lanes *)(grad + i);

    transpose(size, values, room.writes, values, back.minus, size);
    float *queries = back.by_mix + size * size; /* gradients of their scores */
    product_below(size, values, plain(back.reading, values), back.minus, back.by_mix);
    product_below(size, values, plain(back.reading + size * values, values), back.minus, queries);
    by_scores_of(c, back, by.decay.spread);
    by_old_state(c, state, back, by);
    add_lower(size, keys, back.by_mix, c.k, by.k);
    add_lower(size, keys, queries, c.k, by.q);
    add_lower_turned(size, keys, back.by_mix, c.k, by.k);
    add_lower_turned(size, keys, queries, c.q, by.k);
    by_taken(c, keys, values, room.writes, back.pulled, by_state, room.both, back.columns, by.k,
             by.decay);
    fade_backward(c, keys, values, state, by_state, by.decay);
    add_reads(c, c.k, back.reading, d.weights - 1, d.momentum - 1, room.both, by_state);
    add_reads(c, c.q, grad, d.weights, d.momentum, room.both, by_state);
}

#endif
