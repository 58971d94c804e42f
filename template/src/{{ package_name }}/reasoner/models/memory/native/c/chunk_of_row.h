/* A chunk of a row with what both passes make of its inputs: the gates' decay and, where tokens come
 * before their projections, queries, keys and values.
 *
 * `room` is memory to work in, one part after another.
 */
#ifndef CHUNK_OF_ROW_H
#define CHUNK_OF_ROW_H

#include "arguments.h"
#include "deep_chunk.h"
#include "room.h"

static long inner_keys(const Given *given) {
    return given->features ? given->features : given->keys;
}

static long decay_room(long size) { return 2 * size * size + 3 * (size + LINE); }

static long pairs_room(const Given *given) {
    return given->projections.heads ? KINDS * given->size * given->keys : 0;
}

/* Of what the convolutions gave and what `pairs_backward` adds to it. */
static long mixed_rows(const Given *given) { return given->size + given->projections.taps; }

static long mixed_room(const Given *given) {
    return given->projections.heads ? KINDS * mixed_rows(given) * given->keys : 0;
}

/* Of projections that are not kept. */
static long projected_room(const Given *given) {
    const Projections *p = &given->projections;
    return p->heads && !p->projected ? passing_room(p, given->size) : 0;
}

/* Where those of a chunk are, made if they are not there yet. */
static Projected projected_at(const Given *given, long row, long index, float *passing) {
    const Projections *p = &given->projections;
    long size = given->size, begin = index * size;
    if (!p->projected && index) pass_on(p, size, passing);
    Projected to = p->projected ? kept_at(p, row, given->tokens, begin) : passing_at(p, passing);
    if (p->x) project(p, row, begin, size, to);
    return to;
}

/* The `index`-th chunk of a row; what is made for it lies at `room`: its decay, and pairs. */
static Chunk chunk_at(const Given *given, long row, long index, float *room, float *passing,
                      float *const *mixed) {
    long size = given->size, begin = row * given->tokens + index * size;
    Chunk c;
    c.size = size;
    c.keys = given->keys;
    c.values = given->values;
    c.rate = given->rate + begin;
    c.decay.keep = given->keep + begin;
    c.decay.eta = given->eta + begin;
    c.decay.spread = room;
    c.decay.moved = room + size * size;
    c.decay.weights = c.decay.moved + size * size + LINE;
    c.decay.momentum = c.decay.weights + size + LINE;
    c.decay.coast = c.decay.momentum + size + LINE;
    decay_of(size, c.decay);
    if (given->projections.heads) {
        float *q = room + decay_room(size), *k = q + size * c.keys, *v = k + size * c.keys;
        float *pairs[] = {q, k, v};
        Projected projected = projected_at(given, row, index, passing);
        pairs_of(&given->projections, projected, row, index * size, size, pairs, mixed);
        c.q = q;
        c.k = k;
        c.v = v;
    } else {
        c.q = given->q + begin * c.keys;
        c.k = given->k + begin * c.keys;
        c.v = given->v + begin * c.values;
    }
    return c;
}

#endif
