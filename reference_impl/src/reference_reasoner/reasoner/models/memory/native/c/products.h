/* Products of small matrices in float32, rows one after another in memory.
 *
 * A tile of the result stays in registers while all of its sums grow. Rows and columns are
 * multiples of 16, as native/library.py's callers see to, so that no tile is cut.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "lanes.h"

#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 8 /* times two vectors: half of the 32 registers hold sums */
#else
#define ROWS 4
#endif

/* A product's left side, as it stands or transposed: element (i, k) is at[i * row + k * column]. */
typedef struct {
    const float *at;
    long row, column;
} Left;

INLINE Left plain(const float *at, long width) { return (Left){at, width, 1}; }
INLINE Left turned(const float *at, long width) { return (Left){at, 1, width}; }

INLINE void tile(int vectors, long depth, Left a, const float *b, long b_width, float *out,
                 long out_width, float sign, int add) {
    lanes sums[ROWS][2];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = (lanes){0};
    for (long k = 0; k < depth; k++) {
        const lanes *row = (const lanes *)(b + k * b_width);
        for (int i = 0; i < ROWS; i++) {
            float each = a.at[i * a.row + k * a.column];
            for (int j = 0; j < vectors; j++) sums[i][j] += each * row[j];
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < vectors; j++) {
            lanes *to = (lanes *)(out + i * out_width) + j;
            lanes more = sign * sums[i][j];
            if (add) more += *to;
            *to = more;
        }
}

/* Which square matrix of a product is triangular, so that tiles of zeros are left out. */
typedef enum { NONE, LOWER_LEFT, UPPER_LEFT, LOWER_OUT } Triangle;

/* A band of `vectors` columns of out [rows, ...] = sign a b, or with `add` that much more. */
INLINE void band(int vectors, long column, long rows, long depth, Left a, const float *b,
                 long b_width, float *out, long out_width, float sign, int add, Triangle triangle) {
    for (long row = 0; row < rows; row += ROWS) {
        if (triangle == LOWER_OUT && column >= row + ROWS) continue; /* it stays as it was */
        long from = triangle == UPPER_LEFT ? row : 0;
        long to = triangle == LOWER_LEFT ? row + ROWS : depth;
        Left left = {a.at + row * a.row + from * a.column, a.row, a.column};
        tile(vectors, to - from, left, b + from * b_width + column, b_width,
             out + row * out_width + column, out_width, sign, add);
    }
}

INLINE void multiply(long rows, long columns, long depth, Left a, const float *b, long b_width,
                     float *out, long out_width, float sign, int add, Triangle triangle) {
    long column = 0;
    for (; column + 2 * LANES <= columns; column += 2 * LANES)
        band(2, column, rows, depth, a, b, b_width, out, out_width, sign, add, triangle);
    for (; column < columns; column += LANES)
        band(1, column, rows, depth, a, b, b_width, out, out_width, sign, add, triangle);
}

/* out [rows, columns] = a b. */
static void product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                    float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, 1, 0, NONE);
}

/* The lower triangle of out [size, size] = a b; tiles above it stay as they were. */
static void product_below(long size, long depth, Left a, const float *b, float *out) {
    multiply(size, size, depth, a, b, size, out, size, 1, 0, LOWER_OUT);
}

/* out += a b. */
static void add_product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                        float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, 1, 1, NONE);
}

/* out [size, columns] += a b with a lower triangular a [size, size]. */
static void add_lower(long size, long columns, const float *a, const float *b, float *out) {
    multiply(size, columns, size, plain(a, size), b, columns, out, columns, 1, 1, LOWER_LEFT);
}

/* The same with a transposed. */
static void add_lower_turned(long size, long columns, const float *a, const float *b, float *out) {
    multiply(size, columns, size, turned(a, size), b, columns, out, columns, 1, 1, UPPER_LEFT);
}

/* out -= a b. */
static void take_product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                         float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, -1, 1, NONE);
}

static void take_lower(long size, long columns, const float *a, const float *b, float *out) {
    multiply(size, columns, size, plain(a, size), b, columns, out, columns, -1, 1, LOWER_LEFT);
}

static void take_lower_turned(long size, long columns, const float *a, const float *b,
                              float *out) {
    multiply(size, columns, size, turned(a, size), b, columns, out, columns, -1, 1, UPPER_LEFT);
}

INLINE void transpose_four(const float *x, long width, float *out, long out_width) {
    four a = *(const four *)x, b = *(const four *)(x + width);
    four c = *(const four *)(x + 2 * width), d = *(const four *)(x + 3 * width);
    four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    four AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    four CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four *)out = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four *)(out + out_width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four *)(out + 2 * out_width) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
    *(four *)(out + 3 * out_width) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}

/* out [columns, rows] = x [rows, columns] transposed, by squares whose lines the cache keeps. */
static void transpose(long rows, long columns, const float *x, long width, float *out,
                      long out_width) {
    for (long row = 0; row < rows; row += 16)
        for (long column = 0; column < columns; column += 16)
            for (long i = row; i < row + 16; i += 4)
                for (long j = column; j < column + 16; j += 4)
                    transpose_four(x + i * width + j, width, out + j * out_width + i, out_width);
}

#endif
