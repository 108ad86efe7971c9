/* Sums of real numbers, in an order that is part of the result. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"

/* The sum of `wide` numbers, a power of two: their halves are added to each other until one is left. */
static double folded(double *sums, i64 wide) {
    for (i64 half = wide / 2; half > 0; half /= 2) {
#pragma omp simd
        for (i64 i = 0; i < half; i++) sums[i] += sums[half + i];
    }
    return sums[0];
}

/* Elements first .. first + n of a row of `dims` axes, in the order of its indices. */
static void gather(const float *row, i64 dims, const i64 *sizes, const i64 *strides, i64 first, i64 n, float *out) {
    const i64 inner = sizes[dims - 1], step = strides[dims - 1];
    for (i64 done = 0; done < n;) {
        const i64 at = (first + done) % inner, run = inner - at < n - done ? inner - at : n - done;
        const float *from = row + at * step;
        i64 rest = (first + done) / inner;
        for (i64 d = dims - 2; d >= 0; d--) {
            from += rest % sizes[d] * strides[d];
            rest /= sizes[d];
        }
        for (i64 i = 0; i < run; i++) out[done + i] = from[i * step];
        done += run;
    }
}

/* Sums of |value| in double of rows of n elements, row r at x + at[r] with `dims` axes of these sizes and strides.

   Blocks of a row, in the order of its indices, are added up half to half, then their sums; so the order is the same
   whatever the threads, the vectors and the layout, and `sums.py` has it too. Both are filled up with zeros, which change
   nothing. out: [rows]. */
void spikeattn_sum_sizes(const float *x, const i64 *at, i64 rows, i64 dims, const i64 *sizes, const i64 *strides, i64 n,
                         double *out, int threads) {
    const i64 blocks = (n + BLOCK - 1) / BLOCK;
    const int plain = dims == 1 && strides[0] == 1;
    i64 wide = 1;
    while (wide < blocks) wide *= 2;
    double *sums = calloc((size_t)(rows * wide), sizeof(double));
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 r = 0; r < rows; r++)
        for (i64 b = 0; b < blocks; b++) {
            const i64 first = b * BLOCK, size = n - first < BLOCK ? n - first : BLOCK;
            float gathered[BLOCK];
            double halves[BLOCK / 2];
            if (!plain) gather(x + at[r], dims, sizes, strides, first, size, gathered);
            const float *block = plain ? x + at[r] + first : gathered;
            const i64 both = size > BLOCK / 2 ? size - BLOCK / 2 : 0, one = size < BLOCK / 2 ? size : BLOCK / 2;
#pragma omp simd
            for (i64 i = 0; i < both; i++) halves[i] = fabs((double)block[i]) + fabs((double)block[BLOCK / 2 + i]);
            for (i64 i = both; i < one; i++) halves[i] = fabs((double)block[i]);
            for (i64 i = one; i < BLOCK / 2; i++) halves[i] = 0;
            sums[r * wide + b] = folded(halves, BLOCK / 2);
        }
    for (i64 r = 0; r < rows; r++) out[r] = folded(sums + r * wide, wide);
    free(sums);
}
