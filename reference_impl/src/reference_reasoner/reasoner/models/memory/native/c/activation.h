/* SiLU and its slope, by vectors. */
#ifndef ACTIVATION_H
#define ACTIVATION_H

#include "lanes.h"

typedef int whole __attribute__((vector_size(4 * LANES)));

/* e^x to 2e-7: 2^n times e^r, |r| <= ln 2 / 2, whose polynomial is off by at most 1.1e-7 (the best
 * of degree 5 that begins with 1 + r). Its halves are added up side by side. */
INLINE lanes exponential(lanes x) {
    const lanes one = (lanes){0} + 1;
    x = (lanes)(((whole)x & (x > -87)) | ((whole)(one * -87) & ~(x > -87)));
    x = (lanes)(((whole)x & (x < 88)) | ((whole)(one * 88) & ~(x < 88)));
    lanes n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    lanes r = (x - n * 0.693145752f) - n * 1.42860677e-6f, square = r * r;
    lanes high = 0.0418901145f + r * 0.00831252523f;
    lanes sum = (1 + r) + square * ((0.499992311f + r * 0.166671142f) + square * high);
    return (lanes)((__builtin_convertvector(n, whole) + 127) << 23) * sum;
}

INLINE lanes sigmoid(lanes z) { return 1 / (1 + exponential(-z)); }

INLINE lanes slope(lanes z, lanes gate) { return gate * (1 + z * (1 - gate)); }

INLINE float root(float x) { return __builtin_sqrtf(x); }

#endif
