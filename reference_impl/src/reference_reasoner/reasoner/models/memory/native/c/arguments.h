/* What memory.c is called with, field by field as in native/arguments.py. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "pairs.h"

typedef struct {
    long threads, rows, tokens, size, keys, features, values;
    const float *q, *k, *v;                       /* [N, T, D], [N, T, D], [N, T, V], or NULL */
    Projections projections;
    const float *rate, *keep, *eta, *inner_rate;  /* [N, T]; the last is NULL without features */
    const _Bool *resets;                          /* [N, G] or NULL */
    const float *first_initial, *second_initial;  /* what resets set states to, or NULL */
} Given;

typedef struct {
    float *first, *second;               /* states: at the start, then at the end */
    float *read;                         /* [N, T, V] */
    float *errors;                       /* [N, T, V] or NULL */
    float *unit;                         /* [N, T, F] features of keys, or NULL */
    float *first_starts, *second_starts; /* states at chunks' starts [N, G - begin, ...], or NULL */
    long begin;                          /* the first chunk whose start is kept */
} Results;

typedef struct {
    const float *first_starts, *second_starts, *errors; /* of `Results` */
    const float *by_read, *by_errors, *by_unit;         /* the latter two may be NULL */
    const float *by_first_starts, *by_second_starts;    /* or NULL, [N, G - begin, ...] */
    long begin;                                         /* the first chunk that has them */
} Back;

typedef struct {
    float *q, *k, *v, *rate, *keep, *eta, *inner_rate;  /* as in `Given` */
    float *projected, *taps;                            /* [B, T, 3 W], and [N, J, 3, D] by row */
    float *first, *second;                 /* of the states at the end, then at the start */
    float *first_initial, *second_initial; /* added to; NULL without resets */
} Grads;

#endif
