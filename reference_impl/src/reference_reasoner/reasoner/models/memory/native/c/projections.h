/* What the tokens of one head project to, from which pairs.h makes queries, keys and values.
 *
 * B batch, T tokens, I numbers a token, H heads, D head width, W = H D, J taps, at most as many as a
 * chunk has tokens. Row n is head n % H of batch n / H.
 */
#ifndef PROJECTIONS_H
#define PROJECTIONS_H

#include "products.h"

#define KINDS 3 /* query, key, value, as they stand side by side in the projections */

typedef struct {
    long heads, width, taps, inputs; /* H, or 0: queries, keys and values are given; D, J, I */
    long stride;                     /* numbers of x from one batch to the next one */
    const float *x;                  /* [B, T, I], or NULL: `projected` is there already */
    const float *matrix;             /* [3 W, I] */
    float *projected;                /* [B, T, 3 W], x times the matrix, or NULL: not kept */
    const float *weights;            /* [J, 3 W] of the convolution */
    const float *panels;             /* [H, I, 3 D], made of the matrix by `panel_of` */
} Projections;

/* One head's: query, key and value `apart` from each other, `row` numbers from token to token. */
typedef struct {
    float *at;
    long row, apart;
} Projected;

INLINE long channels(const Projections *p) { return KINDS * p->heads * p->width; }

/* Where those from token `begin` of all `tokens` on are kept. */
INLINE Projected kept_at(const Projections *p, long row, long tokens, long begin) {
    float *at = p->projected + (row / p->heads * tokens + begin) * channels(p);
    return (Projected){at + row % p->heads * p->width, channels(p), p->heads * p->width};
}

static long passing_room(const Projections *p, long size) {
    return (p->taps - 1 + size) * KINDS * p->width;
}

/* Where a chunk's are that are not kept: in a room that begins with the last J - 1 tokens before. */
INLINE Projected passing_at(const Projections *p, float *room) {
    long row = KINDS * p->width;
    return (Projected){room + (p->taps - 1) * row, row, p->width};
}

/* The last J - 1 tokens of such a chunk, on to the next one's room, which is the same. */
INLINE void pass_on(const Projections *p, long size, float *room) {
    long row = KINDS * p->width;
    for (long i = 0; i < (p->taps - 1) * row; i++) room[i] = room[size * row + i];
}

static long panels_room(const Projections *p) { return channels(p) * p->inputs; }

/* One head's columns of the matrix, query's, key's and value's side by side: [I, 3 D] of
 * panels [H, I, 3 D]. */
static void panel_of(const Projections *p, long head, float *panels) {
    long size = p->width * p->inputs, all = KINDS * p->width;
    for (long kind = 0; kind < KINDS; kind++)
        transpose(p->width, p->inputs, p->matrix + (kind * p->heads + head) * size, p->inputs,
                  panels + head * KINDS * size + kind * p->width, all);
}

/* The projections of `size` tokens from `begin` on. */
static void project(const Projections *p, long row, long begin, long size,
                    Projected to) {
    const float *x = p->x + row / p->heads * p->stride + begin * p->inputs;
    const float *panel = p->panels + row % p->heads * KINDS * p->width * p->inputs;
    for (long kind = 0; kind < KINDS; kind++)
        product(size, p->width, p->inputs, plain(x, p->inputs), panel + kind * p->width,
                KINDS * p->width, to.at + kind * to.apart, to.row);
}

#endif
