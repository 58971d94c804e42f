/* Memory to work in. */
#ifndef ROOM_H
#define ROOM_H

#include <stdlib.h>

/* Parts of a room begin at whole vectors, as those that lie across two cache lines cost twice. */
#define LINE 16

/* Memory for so many numbers, or NULL; its length is a multiple of its alignment, as C asks for. */
static float *memory_for(long numbers) {
    long all = (numbers + LINE - 1) / LINE * LINE;
    return aligned_alloc(LINE * sizeof(float), all * sizeof(float));
}

#endif
