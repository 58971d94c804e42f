/* The exact memories of cpu/chunks.py for float32 on CPUs: rows side by side, chunks in turn.
 * Where tokens come before their projections, a chunk's queries, keys and values are made on the way.
 *
 * N rows, T tokens in G chunks of C, D key width, F features (0: a linear memory), V value width;
 * K = F, or D where there are none. States are [N, D, 2 F] and [N, K, 2 V]: weights and, beside
 * each row of them, momentum. native/calls.py builds and calls it, and says what sizes it takes.
 */
#include "chunk_of_row.h"

static void copy(long count, const float *from, float *to) {
    for (long i = 0; i < count; i++) to[i] = from[i];
}

/* Room full of zeros, or NULL. */
static float *room_of(long numbers) {
    float *room = memory_for(numbers);
    for (long i = 0; room && i < numbers; i++) room[i] = 0;
    return room;
}

static void forward_row(const Given *given, const Results *results, long row, float *room) {
    long size = given->size, chunks = given->tokens / size, width = given->features;
    long first_size = given->keys * 2 * width, second_size = inner_keys(given) * 2 * given->values;
    float *first = results->first + row * first_size;
    float *second = results->second + row * second_size;
    float *made = room;
    float *passing = made + decay_room(size) + pairs_room(given);
    float *spare = passing + projected_room(given), *mixing = spare + size * given->values;
    float *rest = mixing + mixed_room(given);
    float *mixed[] = {mixing, mixing + mixed_rows(given) * given->keys,
                      mixing + 2 * mixed_rows(given) * given->keys};
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
        Chunk c = chunk_at(given, row, chunk, made, passing, mixed);
        float *read = results->read + begin * c.values;
        float *errors = results->errors ? results->errors + begin * c.values : spare;
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
    for (long i = 0; projections->heads && i < projections->taps * KINDS * keys; i++)
        by_taps[i] = 0;
    for (long chunk = chunks - 1; chunk >= 0; chunk--) {
        long at = row * chunks + chunk, begin = at * size;
        Chunk c = chunk_at(given, row, chunk, made, NULL, mixed);
        float *by_tokens[] = {by_pairs, by_pairs + size * keys, by_pairs + 2 * size * keys};
        if (!projections->heads) {
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
        if (projections->heads)
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

static long forward_room(const Given *given) {
    long inner = inner_keys(given), size = given->size, values = given->values;
    return decay_room(size) + pairs_room(given) + projected_room(given) + size * values +
           mixed_room(given) + room_for(size, inner, values) +
           layer_for(size, given->keys, given->features, values);
}

static long backward_room(const Given *given) {
    long inner = inner_keys(given), size = given->size, values = given->values;
    return decay_room(size) + decay_grads_room(size) + 2 * pairs_room(given) +
           mixed_room(given) + back_room_for(size, inner, values) +
           layer_for(size, given->keys, given->features, values);
}

/* The matrix head by head; NULL where there is no room. */
static float *panels_of(const Given *given) {
    const Projections *p = &given->projections;
    float *panels = memory_for(panels_room(p));
#pragma omp parallel for num_threads(given->threads)
    for (long head = 0; head < (panels ? p->heads : 0); head++) panel_of(p, head, panels);
    return panels;
}

/* All projections, for rows that cannot be shared out evenly. */
static void project_all(const Given *given) {
    const Projections *p = &given->projections;
    long chunks = given->tokens / given->size;
#pragma omp parallel for num_threads(given->threads)
    for (long i = 0; i < given->rows * chunks; i++) {
        long row = i / chunks, begin = i % chunks * given->size;
        project(p, row, begin, given->size, kept_at(p, row, given->tokens, begin));
    }
}

/* Both return 0, or 1 where there is no memory to work in. */
int memory_forward(const Given *asked, const Results *results) {
    Given given = *asked;
    Projections *p = &given.projections;
    float *panels = p->x ? panels_of(&given) : NULL;
    int failed = p->x && !panels;
    p->panels = panels;
    if (!failed && p->x && p->projected && given.rows % given.threads) {
        project_all(&given);
        p->x = NULL;
    }
    long rows = failed ? 0 : given.rows;
#pragma omp parallel for num_threads(given.threads) reduction(| : failed)
    for (long row = 0; row < rows; row++) {
        float *room = room_of(forward_room(&given));
        if (room)
            forward_row(&given, results, row, room);
        else
            failed = 1;
        free(room);
    }
    free(panels);
    return failed;
}

int memory_backward(const Given *given, const Back *back, const Grads *grads) {
    int failed = 0;
#pragma omp parallel for num_threads(given->threads) reduction(| : failed)
    for (long row = 0; row < given->rows; row++) {
        float *room = room_of(backward_room(given));
        if (room)
            backward_row(given, back, grads, row, room);
        else
            failed = 1;
        free(room);
    }
    return failed;
}
