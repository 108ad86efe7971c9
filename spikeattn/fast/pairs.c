/* Pairs of spikes that meet in products of matrices, from the marginals of the operands. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"

/* Rows of a matrix shorter than this are read several at a time. */
enum { SHORT = 512 };

/* A matrix operand of a product: an element of matrix m lies at x + at[m] + k * kept_step + r * reduced_step, with an
   index k that the product sums over and `reduced` others. Its values are multiples of `unit`. */
struct operand {
    const float *x;
    const i64 *at;
    i64 kept_step, reduced, reduced_step;
    float unit;
};

/* Memory of one thread. */
struct room {
    float scratch[BLOCK];
    int32_t counts[BLOCK];
    double sums[BLOCK];
};

/* Marginals of a matrix whose kept indices lie side by side: a row of counts to which its rows are added. Short rows
   without gaps are taken many at a time, as one. */
static void marginals_of_rows(const struct operand *o, const float *matrix, i64 kept, float near, float relative,
                              int by_value, struct room *room, double *nonzero, double *sums, int *flags) {
    const i64 many = o->reduced_step == kept && kept < SHORT ? SHORT / kept : 1;
    const i64 wide = many * kept, rows = (o->reduced + many - 1) / many, end = o->reduced * kept;
    for (i64 first = 0; first < wide; first += BLOCK) {
        const i64 size = first + BLOCK < wide ? BLOCK : wide - first;
        memset(room->counts, 0, sizeof(int32_t) * (size_t)size);
        memset(room->sums, 0, sizeof(double) * (size_t)size);
        int32_t other = 0;
        for (i64 r = 0; r < rows; r++) {
            const float *row = matrix + r * many * o->reduced_step + first;
            const i64 here = many > 1 && (r + 1) * wide > end ? end - r * wide : size;
            if (o->unit != 1.0f) {
                in_units(row, room->scratch, here, o->unit, near, relative);
                row = room->scratch;
            }
            if (by_value) {
                struct found found = {0};
                values_of(row, here, &found);
                *flags |= found.flags;
#pragma omp simd
                for (i64 i = 0; i < here; i++) room->sums[i] += fabs((double)row[i]);
            }
#pragma omp simd reduction(| : other)
            for (i64 i = 0; i < here; i++) {
                const int32_t bits = bits_of(row[i]), some = (bits & 0x7fffffff) != 0;
                room->counts[i] += some;
                other |= some & (bits != 0x3f800000);
            }
        }
        *flags |= other ? NOT_BINARY : 0;
        for (i64 next = kept; many > 1 && next < size; next += kept)
            for (i64 i = 0; i < kept; i++) {
                room->counts[i] += room->counts[next + i];
                room->sums[i] += room->sums[next + i];
            }
        for (i64 i = 0; i < (many > 1 ? kept : size); i++) {
            nonzero[first + i] = room->counts[i];
            sums[first + i] = room->sums[i];
        }
    }
}

/* For each kept index of matrix m the non-zeros over the others and, `by_value`, the sum of |value| in units. */
static void marginals_of(const struct operand *o, i64 m, i64 kept, float near, float relative, int by_value,
                         struct room *room, double *nonzero, double *sums, int *flags) {
    const float *matrix = o->x + o->at[m];
    if (o->kept_step == 1) {
        marginals_of_rows(o, matrix, kept, near, relative, by_value, room, nonzero, sums, flags);
        return;
    }
    for (i64 k = 0; k < kept; k++) { /* the others lie side by side, or neither: one count after another */
        struct found found = {0};
        int32_t odd = 0;
        for (i64 first = 0; first < o->reduced; first += BLOCK) {
            const i64 size = first + BLOCK < o->reduced ? BLOCK : o->reduced - first;
            const float *part = matrix + k * o->kept_step + first * o->reduced_step;
            if (o->reduced_step != 1) {
                for (i64 i = 0; i < size; i++) room->scratch[i] = part[i * o->reduced_step];
                part = room->scratch;
            }
            if (o->unit != 1.0f) {
                in_units(part, room->scratch, size, o->unit, near, relative);
                part = room->scratch;
            }
            if (by_value)
                values_of(part, size, &found);
            else
                found.nonzero += ones_of(part, size, &odd);
        }
        *flags |= found.flags | (odd ? NOT_BINARY : 0);
        nonzero[k] = (double)found.nonzero;
        sums[k] = found.sum;
    }
}

/* Pairs of non-zeros that meet in products of matrices, `matrices` in a row: over their common index the sum of the
   non-zeros of the one times those of the other and, `by_value`, of the sums of |value|.

   out: [2][rows], the pairs, and those by value. Returns the flags, of both operands together. */
i64 spikeattn_pairs(const float *a, const i64 *at_a, i64 kept_step_a, i64 reduced_a, i64 reduced_step_a, float unit_a,
                    const float *b, const i64 *at_b, i64 kept_step_b, i64 reduced_b, i64 reduced_step_b, float unit_b,
                    i64 rows, i64 matrices, i64 kept, float near, float relative, int by_value, double *out,
                    int threads) {
    const struct operand left = {a, at_a, kept_step_a, reduced_a, reduced_step_a, unit_a};
    const struct operand right = {b, at_b, kept_step_b, reduced_b, reduced_step_b, unit_b};
    memset(out, 0, sizeof(double) * 2 * (size_t)rows);
    int flags = 0;
#pragma omp parallel num_threads(threads) reduction(| : flags)
    {
        struct room *room = malloc(sizeof *room);
        double *nonzero = malloc(sizeof(double) * 4 * (size_t)kept), *sums = nonzero + 2 * kept;
#pragma omp for schedule(static)
        for (i64 m = 0; m < rows * matrices; m++) {
            marginals_of(&left, m, kept, near, relative, by_value, room, nonzero, sums, &flags);
            marginals_of(&right, m, kept, near, relative, by_value, room, nonzero + kept, sums + kept, &flags);
            double pairs = 0, by_values = 0;
            for (i64 k = 0; k < kept; k++) {
                pairs += nonzero[k] * nonzero[kept + k];
                by_values += sums[k] * sums[kept + k];
            }
#pragma omp atomic
            out[m / matrices] += pairs;
            if (by_value) {
#pragma omp atomic
                out[rows + m / matrices] += by_values;
            }
        }
        free(nonzero);
        free(room);
    }
    for (i64 i = 0; i < 2 * rows; i++) flags |= out[i] < LARGEST ? 0 : INEXACT; /* NaN too */
    return flags;
}
