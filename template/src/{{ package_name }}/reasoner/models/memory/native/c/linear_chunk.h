/* One chunk of the exact linear memory of one row, and its gradients.
 *
 * C tokens, D key width, V value width; notation as in linear.py. A state is [D, 2 V]: each
 * row of M and beside it that of S.
 */
#ifndef LINEAR_CHUNK_H
#define LINEAR_CHUNK_H

#include "decay.h"
#include "products.h"

typedef struct {
    long size, keys, values; /* C, D, V */
    const float *k, *q;      /* [C, D] */
    const float *v;          /* [C, V] */
    const float *rate;       /* [C] theta */
    Decay decay;
} Chunk;

/* Room for what both passes make in between. */
typedef struct {
    float *turned; /* [D, C] keys */
    float *mixes;  /* [2 C, C] k_t . k_j times spread of t - 1, then q_t . k_j times that of t */
    float *found;  /* [2 C, 2 V] */
    float *writes; /* [C, V] theta e */
    float *both;   /* [C, 2 V] writes times their weights in M_C, and in S_C */
} Room;

static long room_for(long size, long keys, long values) {
    return keys * size + 2 * size * size + 4 * size * values + 3 * size * values;
}

static Room room_at(float *at, long size, long keys, long values) {
    Room room;
    room.turned = at;
    room.mixes = room.turned + keys * size;
    room.found = room.mixes + 2 * size * size;
    room.writes = room.found + 4 * size * values;
    room.both = room.writes + size * values;
    return room;
}

/* k_t . k_j and q_t . k_j, [2 C, C], for j <= t; what lies far above has to be 0 already. */
static void scores_of(Chunk c, const float *turned, float *scores) {
    long size = c.size;
    product_below(size, c.keys, plain(c.k, c.keys), turned, scores);
    product_below(size, c.keys, plain(c.q, c.keys), turned, scores + size * size);
}

/* What a token's key finds of the writes before it, by row of `spread`; nothing at first. */
INLINE void mixed(long size, const float *scores, const float *spread, float *mixes) {
    for (long j = 0; j < size; j++) mixes[j] = 0;
    for (long i = 0; i < (size - 1) * size; i += LANES)
        *(lanes *)(mixes + size + i) =
            *(const lanes *)(scores + size + i) * *(const lanes *)(spread + i);
    for (long i = 0; i < size * size; i += LANES)
        *(lanes *)(mixes + size * size + i) =
            *(const lanes *)(scores + size * size + i) * *(const lanes *)(spread + i);
}

/* out = weights of the first half of x [2 V] and of the second, added up. */
INLINE void weighted(long values, const float *x, float first, float second, float *out) {
    for (long i = 0; i < values; i += LANES)
        *(lanes *)(out + i) =
            first * *(const lanes *)(x + i) + second * *(const lanes *)(x + values + i);
}

/* [first x, second x]. */
INLINE void twice(long values, const float *x, float first, float second, float *out) {
    scaled(values, first, x, out, 0);
    scaled(values, second, x, out + values, 0);
}

/* What a chunk that writes nothing makes of a state [D, 2 V], in place. */
INLINE void fade(Chunk c, long keys, long values, float *state) {
    long last = c.size - 1;
    float weights = c.decay.weights[last], momentum = c.decay.momentum[last];
    float coast = c.decay.coast[last];
    for (long i = 0; i < keys; i++, state += 2 * values)
        for (long j = 0; j < values; j += LANES) {
            lanes momenta = *(lanes *)(state + values + j);
            *(lanes *)(state + j) = weights * *(lanes *)(state + j) + momentum * momenta;
            *(lanes *)(state + values + j) = coast * momenta;
        }
}

/* Take the writes [C, V] of the inputs `turned` [D, C] from a state that has faded. */
static void take_writes(Chunk c, long keys, long values, const float *turned, const float *writes,
                        float *both, float *state) {
    long size = c.size, last = (size - 1) * size;
    for (long t = 0; t < size; t++)
        twice(values, writes + t * values, c.decay.spread[last + t], c.decay.moved[last + t],
              both + t * 2 * values);
    take_product(keys, 2 * values, size, plain(turned, size), both, 2 * values, state, 2 * values);
}

/* `vectors` of out -= sum over j of factor[j * step] row j. */
INLINE void take_some(int vectors, long count, const float *factor, long step, const float *rows,
                      long width, float *out) {
    lanes sums[4];
    for (int i = 0; i < vectors; i++) sums[i] = ((const lanes *)out)[i];
    for (long j = 0; j < count; j++)
        for (int i = 0; i < vectors; i++)
            sums[i] -= factor[j * step] * ((const lanes *)(rows + j * width))[i];
    for (int i = 0; i < vectors; i++) ((lanes *)out)[i] = sums[i];
}

/* The same for a whole row; four sums grow side by side, as one would wait for itself. */
INLINE void take_rows(long count, const float *factor, long step, const float *rows, long width,
                      float *out) {
    long i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES)
        take_some(4, count, factor, step, rows + i, width, out + i);
    for (; i < width; i += LANES) take_some(1, count, factor, step, rows + i, width, out + i);
}

/* Errors e [C, V] and `room.writes`, from what keys found [C, V], already less the values. */
static void substitute(Chunk c, Room room, float *errors) {
    long size = c.size, values = c.values;
    for (long t = 0; t < size; t++) {
        float *error = errors + t * values;
        take_rows(t, room.mixes + t * size, 1, room.writes, values, error);
        scaled(values, c.rate[t], error, room.writes + t * values, 0);
    }
}

/* Reads and errors [C, V]; the state [D, 2 V] becomes that after the chunk. */
static void chunk_forward(Chunk c, float *state, Room room, float *read, float *errors) {
    long size = c.size, keys = c.keys, values = c.values, wide = 2 * values;
    Decay d = c.decay;
    transpose(size, keys, c.k, keys, room.turned, size);
    scores_of(c, room.turned, room.mixes);
    mixed(size, room.mixes, d.spread, room.mixes);
    product(size, wide, keys, plain(c.k, keys), state, wide, room.found, wide);
    product(size, wide, keys, plain(c.q, keys), state, wide, room.found + size * wide, wide);
    for (long t = 0; t < size; t++) {
        weighted(values, room.found + t * wide, d.weights[t - 1], d.momentum[t - 1],
                 errors + t * values);
        scaled(values, -1, c.v + t * values, errors + t * values, 1);
        weighted(values, room.found + (size + t) * wide, d.weights[t], d.momentum[t],
                 read + t * values);
    }
    substitute(c, room, errors);
    take_lower(size, values, room.mixes + size * size, room.writes, read);
    fade(c, keys, values, state);
    take_writes(c, keys, values, room.turned, room.writes, room.both, state);
}

#endif
