/* Vectors of the compiler (gcc, clang), as long as the CPU's are, and what is done by them. */
#ifndef LANES_H
#define LANES_H

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

INLINE float total(lanes x) {
    const four *parts = (const four *)&x;
    four sum = parts[0];
    for (int i = 1; i < LANES / 4; i++) sum += parts[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
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
