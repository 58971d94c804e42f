/* The exact memories of memory_by_chunk.py for float32 on CPUs: rows side by side, chunks in turn.
 * Where projections are given, a chunk's queries, keys and values are made of them on the way.
 *
 * N rows, T tokens in G chunks of C, D key width, F features (0: a linear memory), V value width;
 * K = F, or D where there are none. States are [N, D, 2 F] and [N, K, 2 V]: weights and, beside
 * each row of them, momentum. memory_native.py builds and calls it, and says what sizes it takes.
 */
#include <stdlib.h>

#include "arguments.h"
#include "deep_chunk.h"

static long inner_keys(const Given *given) {
    return given->features ? given->features : given->keys;
}

/* Parts of a room begin at whole vectors, as those that lie across two cache lines cost twice. */
#define LINE 16

static long decay_room(long size) { return 2 * size * size + 3 * (size + LINE); }

static long pairs_room(const Given *given) {
    return given->projections.projected ? KINDS * given->size * given->keys : 0;
}

/* Of what the convolutions gave and what `pairs_backward` adds to it. */
static long mixed_rows(const Given *given) { return given->size + given->projections.taps; }

static long mixed_room(const Given *given) {
    return given->projections.projected ? KINDS * mixed_rows(given) * given->keys : 0;
}

/* The `index`-th chunk of a row; what is made for it lies at `room`: its decay, and pairs. */
static Chunk chunk_at(const Given *given, long row, long index, float *room,
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
    if (given->projections.projected) {
        float *q = room + decay_room(size), *k = q + size * c.keys, *v = k + size * c.keys;
        float *pairs[] = {q, k, v};
        pairs_of(&given->projections, row, index * size, size, pairs, mixed);
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

static void copy(long count, const float *from, float *to) {
    for (long i = 0; i < count; i++) to[i] = from[i];
}

static void forward_row(const Given *given, const Results *results, long row, float *room) {
    long size = given->size, chunks = given->tokens / size, width = given->features;
    long first_size = given->keys * 2 * width, second_size = inner_keys(given) * 2 * given->values;
    float *first = results->first + row * first_size;
    float *second = results->second + row * second_size;
    float *made = room;
    float *at = made + decay_room(size) + pairs_room(given), *rest = at + mixed_room(given);
    float *mixed[] = {at, at + mixed_rows(given) * given->keys,
                      at + 2 * mixed_rows(given) * given->keys};
    Room inner = room_at(rest, size, inner_keys(given), given->values);
    Layer layer = layer_at(rest + room_for(size, inner_keys(given), given->values), size,
                           given->keys, width, given->values);
    for (long chunk = 0; chunk < chunks; chunk++) {
        long at = row * chunks + chunk, begin = at * size;
        if (given->resets && given->resets[at]) {
            if (width) copy(first_size, given->first_initial + row * first_size, first);
            copy(second_size, given->second_initial + row * second_size, second);
        }
        long place = row * (chunks - results->begin) + chunk - results->begin;
        int kept = chunk >= results->begin;
        if (kept && results->first_starts)
            copy(first_size, first, results->first_starts + place * first_size);
        if (kept && results->second_starts)
            copy(second_size, second, results->second_starts + place * second_size);
        Chunk c = chunk_at(given, row, chunk, made, mixed);
        float *read = results->read + begin * c.values;
        float *errors = results->errors + begin * c.values;
        if (width)
            deep_forward(c, given->inner_rate + begin, width, first, second, inner, layer, read,
                         errors);
        else
            chunk_forward(c, second, inner, read, errors);
        if (results->unit) copy(size * width, layer.unit, results->unit + begin * width);
    }
}

/* Add the gradients of a state at a chunk's start, and where it was reset hand all of them on. */
static void at_start(long count, const float *more, int reset, float *initial, float *grad) {
    for (long i = 0; more && i < count; i++) grad[i] += more[i];
    for (long i = 0; reset && i < count; i++) {
        initial[i] += grad[i];
        grad[i] = 0;
    }
}

static DecayGrads decay_grads_at(float *at, long size) {
    DecayGrads grads;
    grads.spread = at;
    grads.weights = grads.spread + 2 * size * size;
    grads.momentum = grads.weights + 2 * size;
    grads.ends = grads.momentum + 2 * size;
    grads.traces = grads.ends + size;
    grads.last = grads.traces + size;
    for (long i = 0; i < 2 * size + 3; i++) grads.ends[i] = 0;
    return grads;
}

static long decay_grads_room(long size) { return 2 * size * size + 6 * size + LINE; }

static void backward_row(const Given *given, const Back *back, const Grads *grads, long row,
                         float *room) {
    long size = given->size, chunks = given->tokens / size, width = given->features;
    long keys = given->keys, values = given->values, inner = inner_keys(given);
    long first_size = keys * 2 * width, second_size = inner * 2 * values;
    long given_starts = chunks - back->begin;
    float *made = room, *by_decay = made + decay_room(size) + pairs_room(given);
    float *by_pairs = by_decay + decay_grads_room(size), *at_mixed = by_pairs + pairs_room(given);
    float *rest = at_mixed + mixed_room(given);
    float *mixed[] = {at_mixed, at_mixed + mixed_rows(given) * keys,
                      at_mixed + 2 * mixed_rows(given) * keys};
    BackRoom second = back_room_at(rest, size, inner, values);
    Layer layer = layer_at(rest + back_room_for(size, inner, values), size, keys, width, values);
    float *by_first = grads->first + row * first_size;
    float *by_second = grads->second + row * second_size;
    const Projections *projections = &given->projections;
    float *by_taps = grads->taps + row * projections->taps * KINDS * keys;
    for (long i = 0; projections->projected && i < projections->taps * KINDS * keys; i++)
        by_taps[i] = 0;
    for (long chunk = chunks - 1; chunk >= 0; chunk--) {
        long at = row * chunks + chunk, begin = at * size;
        Chunk c = chunk_at(given, row, chunk, made, mixed);
        float *by_tokens[] = {by_pairs, by_pairs + size * keys, by_pairs + 2 * size * keys};
        if (!projections->projected) {
            by_tokens[0] = grads->q + begin * keys;
            by_tokens[1] = grads->k + begin * keys;
            by_tokens[2] = grads->v + begin * values;
        }
        ChunkGrads by = {by_tokens[1], by_tokens[0], by_tokens[2], grads->rate + begin,
                         decay_grads_at(by_decay, size)};
        const float *start = back->second_starts + at * second_size;
        const float *errors = back->errors + begin * values;
        const float *read = back->by_read + begin * values;
        const float *by_errors = back->by_errors ? back->by_errors + begin * values : NULL;
        const float *by_unit = back->by_unit ? back->by_unit + begin * width : NULL;
        if (width)
            deep_backward(c, given->inner_rate + begin, width,
                          back->first_starts + at * first_size, start, errors, read, by_unit,
                          by_errors, second, layer, by, grads->inner_rate + begin, by_first,
                          by_second);
        else
            chunk_backward(c, start, errors, read, by_errors, second, by, by_second);
        decay_backward(size, c.decay, by.decay, grads->keep + begin, grads->eta + begin);
        if (projections->projected)
            pairs_backward(projections, row, given->tokens, chunk * size, size, by_tokens, mixed,
                           grads->projected, by_taps);
        long place = row * given_starts + chunk - back->begin;
        int some = back->by_second_starts && chunk >= back->begin;
        int reset = given->resets && given->resets[at];
        at_start(second_size, some ? back->by_second_starts + place * second_size : NULL, reset,
                 grads->second_initial + row * second_size, by_second);
        if (width)
            at_start(first_size, some ? back->by_first_starts + place * first_size : NULL, reset,
                     grads->first_initial + row * first_size, by_first);
    }
}

/* Room full of zeros, or NULL; its length is a multiple of its alignment, as C asks for. */
static float *room_of(long numbers) {
    long all = (numbers + LINE - 1) / LINE * LINE;
    float *room = aligned_alloc(LINE * sizeof(float), all * sizeof(float));
    for (long i = 0; room && i < all; i++) room[i] = 0;
    return room;
}

/* Both return 0, or 1 where there is no memory to work in. */
int memory_forward(const Given *given, const Results *results) {
    long inner = inner_keys(given), size = given->size, values = given->values;
    long room = decay_room(size) + pairs_room(given) + mixed_room(given) +
                room_for(size, inner, values) +
                layer_for(size, given->keys, given->features, values);
    int failed = 0;
#pragma omp parallel for num_threads(given->threads) reduction(| : failed)
    for (long row = 0; row < given->rows; row++) {
        float *at = room_of(room);
        if (at)
            forward_row(given, results, row, at);
        else
            failed = 1;
        free(at);
    }
    return failed;
}

int memory_backward(const Given *given, const Back *back, const Grads *grads) {
    long inner = inner_keys(given), size = given->size, values = given->values;
    long room = decay_room(size) + decay_grads_room(size) + 2 * pairs_room(given) +
                mixed_room(given) + back_room_for(size, inner, values) +
                layer_for(size, given->keys, given->features, values);
    int failed = 0;
#pragma omp parallel for num_threads(given->threads) reduction(| : failed)
    for (long row = 0; row < given->rows; row++) {
        float *at = room_of(room);
        if (at)
            backward_row(given, back, grads, row, at);
        else
            failed = 1;
        free(at);
    }
    return failed;
}
