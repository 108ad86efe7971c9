/* Counts of tensors that other people's layers made, each in one pass over the memory. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "quantiser.h"

/* Count rows, each of `parts` pieces of n elements side by side; piece i of all, of row i / parts, lies at x + at[i].

   unit: 0 where the tensor should hold 0 and 1 alone (its sums are left alone then); else what its values are multiples
   of, with `near` and `relative`; they are no integers if `real`.
   weights: of an element i weights[(i / inner) % space], or NULL.
   currents: NULL, or what `q` makes x of behind `norm`, block by block before they are counted; it lies as x does.
   out: [4][rows], the non-zeros, those weighed, the sums and those weighed; 0 where nobody asks. low_high [2] takes the
   extremes of values that hold no NaN, or is NULL. Returns the flags. */
i64 spikeattn_count(float *x, const float *currents, const struct quantiser *q, const struct norm *norm, const i64 *at, i64 rows, i64 parts, i64 n, float unit, float near, float relative,
                    int real, const int32_t *weights, i64 space, i64 inner, double *out, float *low_high, int threads) {
    /* A block lies within one run of weights: all of `space` at once where it is small, a piece of it else. */
    const i64 run = weights ? space * inner : n;
    const i64 piece = run < BLOCK ? run : BLOCK, pieces = run ? (run + piece - 1) / piece : 0;
    const i64 runs = run ? n / run : 0;
    /* Several blocks of a row are one task, so that one large image keeps several threads at work. */
    const i64 blocks = runs * pieces, each = piece ? (LEAST + piece - 1) / piece : 1;
    const i64 tasks = (blocks + each - 1) / each;
    double *nonzero = out, *fan_nonzero = out + rows, *sum = out + 2 * rows, *fan_sum = out + 3 * rows;
    memset(out, 0, sizeof(double) * 4 * (size_t)rows);
    int32_t heaviest = 0;
    for (i64 i = 0; weights && i < space; i++) heaviest = weights[i] > heaviest ? weights[i] : heaviest;
    int flags = 0;
    float low = INFINITY, high = -INFINITY;
#pragma omp parallel num_threads(threads) reduction(| : flags) reduction(min : low) reduction(max : high)
    {
        float *scratch = malloc(sizeof(float) * BLOCK);
        int32_t *spread = inner > 1 ? malloc(sizeof(int32_t) * BLOCK) : NULL;
#pragma omp for collapse(2) schedule(static)
        for (i64 i = 0; i < rows * parts; i++)
            for (i64 task = 0; task < tasks; task++) {
                const i64 r = i / parts;
                struct found found = {0};
                struct range range = {INFINITY, -INFINITY};
                int32_t odd = 0;
                const i64 last = (task + 1) * each < blocks ? (task + 1) * each : blocks;
                for (i64 b = task * each; b < last; b++) {
                    const i64 start = (b % pieces) * piece; /* within the run */
                    const i64 size = start + piece < run ? piece : run - start;
                    const i64 place = at[i] + (b / pieces) * run + start;
                    const float *block = x + place;
                    if (currents) quantise(currents, x, place, size, q, norm);
                    const int32_t *w = weights ? weights + start : NULL;
                    if (weights && inner > 1) {
                        for (i64 i = 0; i < size; i++) spread[i] = weights[(start + i) / inner];
                        w = spread;
                    }
                    if (unit == 0.0f) {
                        found.nonzero +=
                            weights ? weighted_ones_of(block, w, size, &odd, &found.fan) : ones_of(block, size, &odd);
                        continue;
                    }
                    count_block(block, w, size, unit, near, relative, real, heaviest, scratch, &found, &range);
                }
                low = range.low < low ? range.low : low;
                high = range.high > high ? range.high : high;
                flags |= found.flags | (odd ? NOT_BINARY : 0);
                /* In double, which holds every count below 2^53, and says of those above that they are. */
#pragma omp atomic
                nonzero[r] += (double)found.nonzero;
                if (weights) {
#pragma omp atomic
                    fan_nonzero[r] += (double)found.fan;
                }
                if (unit != 0.0f) {
#pragma omp atomic
                    sum[r] += found.sum;
                    if (weights) {
#pragma omp atomic
                        fan_sum[r] += found.fan_sum;
                    }
                }
            }
        free(spread);
        free(scratch);
    }
    if (low_high) low_high[0] = low, low_high[1] = high;
    for (i64 i = 0; i < 4 * rows; i++) flags |= out[i] < LARGEST ? 0 : INEXACT; /* NaN too */
    return flags;
}
