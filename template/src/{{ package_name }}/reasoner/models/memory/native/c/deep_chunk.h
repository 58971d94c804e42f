/* One chunk of the exact deep memory of one row, and its gradients.
 *
 * C tokens, D key width, F features, V value width. In the features of W1, which stands still
 * within a chunk, W2 is the linear memory of linear_chunk.h. States are [D, 2 F] and [F, 2 V].
 * Notation as in deep.py and features.py.
 */
#ifndef DEEP_CHUNK_H
#define DEEP_CHUNK_H

#include "activation.h"
#include "linear_backward.h"

#define EPSILON 1e-6f

/* n(silu(z)) of tokens [C, F], and what each was multiplied by to have length 1. */
static void features_of(long size, long width, const float *z, float *unit, float *inverse) {
    for (long t = 0; t < size; t++, z += width, unit += width) {
        lanes square = {0};
        for (long i = 0; i < width; i += LANES) {
            lanes active = *(const lanes *)(z + i) * sigmoid(*(const lanes *)(z + i));
            *(lanes *)(unit + i) = active;
            square += active * active;
        }
        inverse[t] = 1 / root(total(square) + EPSILON);
        scaled(width, inverse[t], unit, unit, 0);
    }
}

/* Gradients of z [C, F] from those of its features; `out` may be `grad`. */
static void features_backward(long size, long width, const float *z, const float *unit,
                              const float *inverse, const float *grad, float *out) {
    for (long t = 0; t < size; t++, z += width, unit += width, grad += width, out += width) {
        float along = dot(width, unit, grad);
        for (long i = 0; i < width; i += LANES) {
            lanes input = *(const lanes *)(z + i), gate = sigmoid(input);
            lanes across = *(const lanes *)(grad + i) - along * *(const lanes *)(unit + i);
            *(lanes *)(out + i) = inverse[t] * across * slope(input, gate);
        }
    }
}

/* One token's gradients through slope(z) r (back - u (u . back)): that of `back`, in place of
 * `back`, and that of z, in place of `grad`; see `_through_correction` of cpu/deep_chunk.py. */
INLINE void through_correction(long width, const float *z, const float *unit, float inverse,
                               float *back, float *grad) {
    float along = dot(width, unit, back);
    lanes by_inverse_of = {0}, against_of = {0}, unit_of = {0};
    for (long i = 0; i < width; i += LANES) {
        lanes u = *(const lanes *)(unit + i), b = *(lanes *)(back + i);
        lanes input = *(const lanes *)(z + i), gate = sigmoid(input);
        lanes by_across = *(lanes *)(grad + i) * slope(input, gate);
        by_inverse_of += by_across * (b - along * u);
        against_of += inverse * by_across * u;
    }
    float against = total(against_of);
    for (long i = 0; i < width; i += LANES) {
        lanes u = *(const lanes *)(unit + i), b = *(lanes *)(back + i);
        lanes input = *(const lanes *)(z + i), gate = sigmoid(input);
        lanes by_across = inverse * *(lanes *)(grad + i) * slope(input, gate);
        unit_of -= (by_across * along + b * against) * u;
    }
    /* u = a r and r = (a . a + eps)^-1/2, so that r' = -r^3 a' . a, and a = u / r */
    float by_inverse = total(by_inverse_of) + total(unit_of) / inverse;
    for (long i = 0; i < width; i += LANES) {
        lanes u = *(const lanes *)(unit + i), b = *(lanes *)(back + i);
        lanes input = *(const lanes *)(z + i), gate = sigmoid(input);
        lanes steep = slope(input, gate), given = *(lanes *)(grad + i);
        lanes curve = gate * (1 - gate) * (2 + input * (1 - 2 * gate));
        lanes by_across = inverse * given * steep;
        lanes by_unit = -(by_across * along + b * against);
        lanes by_active = (by_unit - u * (by_inverse * inverse)) * inverse;
        *(lanes *)(grad + i) = by_active * steep + inverse * (b - along * u) * given * curve;
        *(lanes *)(back + i) = by_across - against * u;
    }
}

/* What the first layer does in both passes. */
typedef struct {
    float *z, *unit;   /* [2 C, F] of keys, then of queries */
    float *inverse;    /* [2 C] */
    float *back;       /* [C, F] errors through W2 */
    float *corrected;  /* [C, F] what W1 is corrected by, times the inner rate */
    float *turned;     /* [D, C] keys */
    float *both;       /* [C, 2 F] */
    float *columns;    /* [2 F, D] or [V, F] */
    float *pulled;     /* [C, 2 F] */
    float *by_unit;    /* [2 C, F] */
    float *by_errors;  /* [C, V] */
} Layer;

static long layer_for(long size, long keys, long width, long values) {
    return 12 * size * width + 2 * size + keys * size + size * values +
           width * (2 * keys > values ? 2 * keys : values);
}

static Layer layer_at(float *at, long size, long keys, long width, long values) {
    Layer layer;
    layer.z = at;
    layer.unit = layer.z + 2 * size * width;
    layer.back = layer.unit + 2 * size * width;
    layer.corrected = layer.back + size * width;
    layer.both = layer.corrected + size * width;
    layer.pulled = layer.both + 2 * size * width;
    layer.by_unit = layer.pulled + 2 * size * width;
    layer.inverse = layer.by_unit + 2 * size * width;
    layer.turned = layer.inverse + 2 * size;
    layer.by_errors = layer.turned + keys * size;
    layer.columns = layer.by_errors + size * values;
    return layer;
}

/* The linear memory in the features of keys and queries through W1, the first of `first`. */
static Chunk in_features(Chunk c, long width, const float *first, Layer layer) {
    long size = c.size, keys = c.keys;
    product(size, width, keys, plain(c.k, keys), first, 2 * width, layer.z, width);
    product(size, width, keys, plain(c.q, keys), first, 2 * width, layer.z + size * width, width);
    features_of(2 * size, width, layer.z, layer.unit, layer.inverse);
    c.keys = width;
    c.k = layer.unit;
    c.q = layer.unit + size * width;
    return c;
}

/* Errors [C, V] as W2 hands them back, `layer.back`; `layer.columns` is W2 transposed. */
static void hand_back(Chunk inner, const float *errors, Layer layer) {
    product(inner.size, inner.keys, inner.values, plain(errors, inner.values), layer.columns,
            inner.keys, layer.back, inner.keys);
}

/* `chunk_forward` of both layers: both states become those after the chunk. */
static void deep_forward(Chunk c, const float *inner_rate, long width, float *first, float *second,
                         Room room, Layer layer, float *read, float *errors) {
    long size = c.size, keys = c.keys, values = c.values;
    Chunk inner = in_features(c, width, first, layer);
    transpose(width, values, second, 2 * values, layer.columns, width);
    chunk_forward(inner, second, room, read, errors);
    hand_back(inner, errors, layer);
    features_backward(size, width, layer.z, layer.unit, layer.inverse, layer.back,
                      layer.corrected);
    for (long t = 0; t < size; t++)
        scaled(width, inner_rate[t], layer.corrected + t * width, layer.corrected + t * width, 0);
    transpose(size, keys, c.k, keys, layer.turned, size);
    fade(c, keys, width, first);
    take_writes(c, keys, width, layer.turned, layer.corrected, layer.both, first);
}

/* `chunk_backward` of both layers; `by_features`, those of the keys' features, may be NULL. */
static void deep_backward(Chunk c, const float *inner_rate, long width, const float *first,
                          const float *second, const float *errors, const float *grad,
                          const float *by_features, const float *by_errors, BackRoom back,
                          Layer layer, ChunkGrads by, float *by_inner_rate, float *by_first,
                          float *by_second) {
    long size = c.size, keys = c.keys, values = c.values, last = (size - 1) * size;
    Chunk inner = in_features(c, width, first, layer);
    transpose(width, values, second, 2 * values, layer.columns, width);
    hand_back(inner, errors, layer);
    features_backward(size, width, layer.z, layer.unit, layer.inverse, layer.back,
                      layer.corrected);
    product(size, 2 * width, keys, plain(c.k, keys), by_first, 2 * width, layer.pulled, 2 * width);
    float *by_z = layer.both; /* [C, F] of keys, through the correction */
    for (long t = 0; t < size; t++) {
        float *corrected = layer.corrected + t * width, *taking = by_z + t * width;
        weighted(width, layer.pulled + t * 2 * width, -c.decay.spread[last + t],
                 -c.decay.moved[last + t], taking);
        by_inner_rate[t] = dot(width, corrected, taking);
        scaled(width, inner_rate[t], taking, taking, 0);
        scaled(width, -inner_rate[t], corrected, corrected, 0);
        through_correction(width, layer.z + t * width, layer.unit + t * width, layer.inverse[t],
                           layer.back + t * width, taking);
    }
    product(size, values, width, plain(layer.back, width), second, 2 * values, layer.by_errors,
            values);
    if (by_errors) scaled(size * values, 1, by_errors, layer.by_errors, 1);

    ChunkGrads inside = by;
    inside.k = layer.by_unit;
    inside.q = layer.by_unit + size * width;
    chunk_backward(inner, second, errors, grad, layer.by_errors, back, inside, by_second);
    add_product(width, values, size, turned(layer.back, width), errors, values, by_second,
                2 * values);
    if (by_features) scaled(size * width, 1, by_features, layer.by_unit, 1);
    features_backward(2 * size, width, layer.z, layer.unit, layer.inverse, layer.by_unit,
                      layer.by_unit);
    scaled(size * width, 1, by_z, layer.by_unit, 1);

    transpose(keys, width, first, 2 * width, layer.columns, keys);
    product(size, keys, width, plain(inside.k, width), layer.columns, keys, by.k, keys);
    product(size, keys, width, plain(inside.q, width), layer.columns, keys, by.q, keys);
    by_taken(c, keys, width, layer.corrected, layer.pulled, by_first, layer.both, layer.columns,
             by.k, by.decay);
    fade_backward(c, keys, width, first, by_first, by.decay);
    add_product(keys, width, size, turned(c.k, keys), inside.k, width, by_first, 2 * width);
    add_product(keys, width, size, turned(c.q, keys), inside.q, width, by_first, 2 * width);
}

#endif
