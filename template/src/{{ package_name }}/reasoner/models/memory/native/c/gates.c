/* The gates of all tokens, head by head, as token_gates.py has them.
 *
 * B batch, T tokens, I numbers a token, H heads, N = B H rows. Tokens go in blocks.
 */
#include "activation.h"
#include "products.h"
#include "room.h"

typedef struct {
    long threads, batch, tokens, inputs, heads, size; /* the last one: tokens of a block */
    long kinds;                               /* gates of a head */
    long momentum, forgetting;                /* whether there is any */
    long stride;                              /* numbers of x from one batch to the next one */
    const float *x, *matrix, *bias;           /* [B, T, I], [kinds H, I], [kinds H] */
    float *rate, *keep, *eta, *inner_rate;    /* [N, T]: theta, 1 - alpha, eta; inner with 4 kinds */
} Gates;

/* `size` tokens of one head: logits [kinds, size] to gates at `at`. */
static void gates_of(const Gates *g, const float *logits, const float *bias, long at) {
    const lanes one = (lanes){0} + 1;
    for (long i = 0; i < g->size; i += LANES) {
        const float *logit = logits + i;
        lanes past = *(const lanes *)(logit + 2 * g->size) + bias[2];
        lanes fresh = g->momentum ? sigmoid(-past) : one;
        *(lanes *)(g->rate + at + i) = fresh * sigmoid(*(const lanes *)logit + bias[0]);
        *(lanes *)(g->keep + at + i) =
            g->forgetting ? sigmoid(-(*(const lanes *)(logit + g->size) + bias[1])) : one;
        *(lanes *)(g->eta + at + i) = g->momentum ? sigmoid(past) : (lanes){0};
        if (g->kinds > 3)
            *(lanes *)(g->inner_rate + at + i) =
                fresh * sigmoid(*(const lanes *)(logit + 3 * g->size) + bias[3]);
    }
}

/* Gates of all heads, up to the end of a tile. */
static long columns_of(const Gates *g) {
    return (g->kinds * g->heads + LINE - 1) / LINE * LINE;
}

/* The matrix transposed, [I, columns], with zeros in the last ones; NULL where there is no room. */
static float *turned_matrix(const Gates *g) {
    long columns = columns_of(g), all = g->kinds * g->heads;
    float *made = memory_for(g->inputs * columns);
    for (long i = 0; i < (made ? g->inputs : 0); i++)
        for (long j = 0; j < columns; j++)
            made[i * columns + j] = j < all ? g->matrix[j * g->inputs + i] : 0;
    return made;
}

/* Returns 0, or 1 where there is no memory to work in. */
int gates_forward(const Gates *g) {
    long size = g->size, blocks = g->tokens / size, columns = columns_of(g);
    float *matrix = turned_matrix(g);
    int failed = !matrix;
#pragma omp parallel for num_threads(g->threads) reduction(| : failed)
    for (long i = 0; i < (matrix ? g->batch * blocks : 0); i++) {
        long batch = i / blocks, begin = i % blocks * size;
        const float *x = g->x + batch * g->stride + begin * g->inputs;
        float *logits = memory_for(2 * size * columns), *turned = logits + size * columns;
        failed |= !logits;
        if (!logits) continue;
        product(size, columns, g->inputs, plain(x, g->inputs), matrix, columns, logits, columns);
        transpose(size, columns, logits, columns, turned, size);
        for (long head = 0; head < g->heads; head++)
            gates_of(g, turned + head * g->kinds * size, g->bias + head * g->kinds,
                     (batch * g->heads + head) * g->tokens + begin);
        free(logits);
    }
    free(matrix);
    return failed;
}
