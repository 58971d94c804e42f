/* Products of small matrices in float32, rows one after another in memory.
 *
 * A tile of the result stays in registers while all of its sums grow. Rows and columns are
 * multiples of 16, as memory_native.py sees to, so that no tile is cut. Vectors are those of the
 * compiler (gcc, clang), as long as the CPU's are.
 */
#ifndef PRODUCTS_H
#define PRODUCTS_H

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define ROWS 8 /* times two vectors: half of the 32 registers hold sums */
#else
#define ROWS 4
#endif

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
typedef int four_of __attribute__((vector_size(16)));

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

/* out [rows, columns] = sign a b, or with `add` that much more. */
INLINE void multiply(long rows, long columns, long depth, Left a, const float *b, long b_width,
                     float *out, long out_width, float sign, int add) {
    long column = 0;
    for (; column + 2 * LANES <= columns; column += 2 * LANES)
        for (long row = 0; row < rows; row += ROWS)
            tile(2, depth, (Left){a.at + row * a.row, a.row, a.column}, b + column, b_width,
                 out + row * out_width + column, out_width, sign, add);
    for (; column < columns; column += LANES)
        for (long row = 0; row < rows; row += ROWS)
            tile(1, depth, (Left){a.at + row * a.row, a.row, a.column}, b + column, b_width,
                 out + row * out_width + column, out_width, sign, add);
}

static void product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                    float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, 1, 0);
}

static void add_product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                        float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, 1, 1);
}

static void take_product(long rows, long columns, long depth, Left a, const float *b, long b_width,
                         float *out, long out_width) {
    multiply(rows, columns, depth, a, b, b_width, out, out_width, -1, 1);
}

/* out [columns, rows] = x [rows, columns] transposed. */
static void transpose(long rows, long columns, const float *x, long width, float *out,
                      long out_width) {
    for (long i = 0; i < rows; i += 4)
        for (long j = 0; j < columns; j += 4) {
            four a = *(const four *)(x + i * width + j);
            four b = *(const four *)(x + (i + 1) * width + j);
            four c = *(const four *)(x + (i + 2) * width + j);
            four d = *(const four *)(x + (i + 3) * width + j);
            four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            four AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            four CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            float *to = out + j * out_width + i;
            *(four *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(four *)(to + out_width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(four *)(to + 2 * out_width) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
            *(four *)(to + 3 * out_width) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
        }
}

INLINE float total(lanes x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

/* <a, b> over `size` numbers. */
INLINE float dot(long size, const float *a, const float *b) {
    lanes sum = {0};
    for (long i = 0; i < size; i += LANES) sum += *(const lanes *)(a + i) * *(const lanes *)(b + i);
    return total(sum);
}

/* out = a x, or with `add` that much more. */
INLINE void scaled(long size, float a, const float *x, float *out, int add) {
    for (long i = 0; i < size; i += LANES) {
        lanes more = a * *(const lanes *)(x + i);
        if (add) more += *(lanes *)(out + i);
        *(lanes *)(out + i) = more;
    }
}

#endif
