/* What heads have read, each brought to one size, times a matrix: `NeuralMemory.output`.
 *
 * B batch, T tokens, H heads, D head width, W = H D, N = B H rows, O outputs. Tokens go in blocks.
 */
#include "activation.h"
#include "products.h"
#include "room.h"

#define EPSILON 1e-5f

typedef struct {
    long threads, batch, tokens, heads, width, outputs, size; /* the last one: of a block */
    const float *read, *norm, *matrix;                        /* [N, T, D], [W], [O, W] */
    float *out;                                               /* [B, T, O] */
} Output;

/* A token's read of one head over its root mean square, times the head's part of the norm. */
static void normed(long width, const float *read, const float *norm, float *out) {
    lanes square = {0};
    for (long i = 0; i < width; i += LANES)
        square += *(const lanes *)(read + i) * *(const lanes *)(read + i);
    float inverse = 1 / root(total(square) / width + EPSILON);
    for (long i = 0; i < width; i += LANES)
        *(lanes *)(out + i) = inverse * *(const lanes *)(read + i) * *(const lanes *)(norm + i);
}

/* The matrix transposed, [W, O]; NULL where there is no room. */
static float *turned_matrix(const Output *o) {
    long all = o->heads * o->width;
    float *made = memory_for(all * o->outputs);
#pragma omp parallel for num_threads(o->threads)
    for (long head = 0; head < (made ? o->heads : 0); head++)
        transpose(o->outputs, o->width, o->matrix + head * o->width, all,
                  made + head * o->width * o->outputs, o->outputs);
    return made;
}

/* Returns 0, or 1 where there is no memory to work in. */
int output_forward(const Output *o) {
    long all = o->heads * o->width, blocks = o->tokens / o->size;
    float *matrix = turned_matrix(o);
    int failed = !matrix;
#pragma omp parallel for num_threads(o->threads) reduction(| : failed)
    for (long i = 0; i < (matrix ? o->batch * blocks : 0); i++) {
        long batch = i / blocks, begin = i % blocks * o->size;
        float *joined = memory_for(o->size * all);
        failed |= !joined;
        if (!joined) continue;
        for (long head = 0; head < o->heads; head++) {
            const float *read =
                o->read + ((batch * o->heads + head) * o->tokens + begin) * o->width;
            for (long t = 0; t < o->size; t++)
                normed(o->width, read + t * o->width, o->norm + head * o->width,
                       joined + t * all + head * o->width);
        }
        product(o->size, o->outputs, all, plain(joined, all), matrix, o->outputs,
                o->out + (batch * o->tokens + begin) * o->outputs, o->outputs);
        free(joined);
    }
    free(matrix);
    return failed;
}
