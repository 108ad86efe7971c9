/* Counts of tensors that other people's layers made: non-zero elements, sums of |value|, fan-out-weighted sums, what the
   values are, each in one pass over the memory.

   Whole numbers are counted in integers and added in float32 up to 2^24 and in double behind that, so the order of
   additions, and with it the number of threads, changes nothing. A sum over values that are no integers is not used. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;

/* Elements of a block: 16 KiB stay in the first cache while several sums read them; 4096 weights below 2^19, which the
   caller sees to, add up to less than 2^31, and 4096 values of at most 4096 to 2^24, which float32 still counts. */
enum { BLOCK = 4096, LEAST = 1 << 15 };

/* What `flags` says of a tensor's values. */
enum { FRACTION = 1, NEGATIVE = 2, ABOVE = 4, NOT_BINARY = 8, NOT_A_NUMBER = 16 };

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Values of a block in units of `unit`: rounded where they are multiples but for rounding errors (`near` in units, or
   `relative` of the multiple, whichever is more), as they are elsewhere. The same as `whole` of kinds.py. `out` may be `x`. */
static void in_units(const float *x, float *out, i64 n, float unit, float near, float relative) {
#pragma omp simd
    for (i64 i = 0; i < n; i++) {
        const float multiple = x[i] / unit, rounded = rintf(multiple);
        const float allowed = fabsf(rounded) * relative > near ? fabsf(rounded) * relative : near;
        out[i] = fabsf(multiple - rounded) <= allowed ? rounded : multiple;
    }
}

/* Non-zeros of a block that should hold 0 and 1 alone; `odd` takes a bit of whatever else is there. -0.0 is a zero. */
static int32_t ones_of(const float *restrict x, i64 n, int32_t *odd) {
    int32_t ones = 0, other = 0;
#pragma omp simd reduction(+ : ones) reduction(| : other)
    for (i64 i = 0; i < n; i++) {
        const int32_t bits = bits_of(x[i]), some = (bits & 0x7fffffff) != 0;
        ones += some;
        other |= some & (bits != 0x3f800000);
    }
    *odd |= other;
    return ones;
}

/* The same, and the sum of the weights w[0..n) of the non-zeros. */
static int32_t weighted_ones_of(const float *restrict x, const int32_t *restrict w, i64 n, int32_t *odd, i64 *fan) {
    int32_t ones = 0, other = 0, weighted = 0;
#pragma omp simd reduction(+ : ones, weighted) reduction(| : other)
    for (i64 i = 0; i < n; i++) {
        const int32_t bits = bits_of(x[i]), some = (bits & 0x7fffffff) != 0;
        ones += some;
        weighted += -some & w[i];
        other |= some & (bits != 0x3f800000);
    }
    *odd |= other;
    *fan += weighted;
    return ones;
}

/* Non-zeros of a block, its sum of |value|, and its flags. */
static int32_t values_of(const float *restrict x, i64 n, double *sum, int *flags) {
    int32_t nonzero = 0, fraction = 0, below = 0, above = 0, none = 0;
    float total = 0, largest = 0;
#pragma omp simd reduction(+ : nonzero, total) reduction(| : fraction, below, above, none) reduction(max : largest)
    for (i64 i = 0; i < n; i++) {
        const float value = x[i], size = fabsf(value);
        nonzero += value != 0.0f;
        fraction |= value != truncf(value); /* NaN too */
        none |= value != value;
        below |= value < 0.0f;
        above |= size > 1.0f;
        total += size;
        largest = size > largest ? size : largest;
    }
    if (largest > BLOCK && !fraction) { /* more than float32 counts */
        double exact = 0;
        for (i64 i = 0; i < n; i++) exact += fabs((double)x[i]);
        *sum += exact;
    } else
        *sum += total;
    *flags |= (fraction ? FRACTION : 0) | (below ? NEGATIVE : 0) | (above ? ABOVE : 0);
    *flags |= (fraction || below || above ? NOT_BINARY : 0) | (none ? NOT_A_NUMBER : 0);
    return nonzero;
}

/* Weighted non-zeros of a block whose elements have the weights w[0..n). */
static int32_t weighted_ones(const float *restrict x, const int32_t *restrict w, i64 n) {
    int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (i64 i = 0; i < n; i++) sum += x[i] != 0.0f ? w[i] : 0;
    return sum;
}

static double weighted_values(const float *restrict x, const int32_t *restrict w, i64 n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (i64 i = 0; i < n; i++) sum += fabs((double)x[i]) * w[i];
    return sum;
}

/* Count rows of n elements side by side, row r at x + at[r].

   unit: 0 where the tensor should hold 0 and 1 alone (`sum`, `fan_sum` are left alone then); else what its values are
   multiples of, with `near` and `relative`.
   weights: of an element i weights[(i / inner) % space], or NULL.
   Added to: nonzero, sum [rows]; fan_nonzero, fan_sum [rows] where there are weights; low_high [2] where the caller
   wants the extremes of values that hold no NaN. Returns the flags. */
i64 spikeattn_count(const float *x, const i64 *at, i64 rows, i64 n, float unit, float near, float relative,
                    const int32_t *weights, i64 space, i64 inner, i64 *nonzero, double *sum, i64 *fan_nonzero,
                    double *fan_sum, float *low_high, int threads) {
    /* A block lies within one run of weights: all of `space` at once where it is small, a piece of it else. */
    const i64 run = weights ? space * inner : n;
    const i64 piece = run < BLOCK ? run : BLOCK, pieces = run ? (run + piece - 1) / piece : 0;
    const i64 runs = run ? n / run : 0;
    /* Several blocks of a row are one task, so that one large image keeps several threads at work. */
    const i64 blocks = runs * pieces, each = piece ? (LEAST + piece - 1) / piece : 1;
    const i64 tasks = (blocks + each - 1) / each;
    int flags = 0;
    float low = INFINITY, high = -INFINITY;
#pragma omp parallel num_threads(threads) reduction(| : flags) reduction(min : low) reduction(max : high)
    {
        float *scratch = malloc(sizeof(float) * BLOCK);
        int32_t *spread = inner > 1 ? malloc(sizeof(int32_t) * BLOCK) : NULL;
#pragma omp for collapse(2) schedule(static)
        for (i64 r = 0; r < rows; r++)
            for (i64 task = 0; task < tasks; task++) {
                i64 count = 0, fan = 0;
                double total = 0, fan_total = 0;
                int32_t odd = 0;
                const i64 last = (task + 1) * each < blocks ? (task + 1) * each : blocks;
                for (i64 b = task * each; b < last; b++) {
                    const i64 start = (b % pieces) * piece; /* within the run */
                    const i64 size = start + piece < run ? piece : run - start;
                    const float *block = x + at[r] + (b / pieces) * run + start;
                    const int32_t *w = weights ? weights + start : NULL;
                    if (weights && inner > 1) {
                        for (i64 i = 0; i < size; i++) spread[i] = weights[(start + i) / inner];
                        w = spread;
                    }
                    if (unit == 0.0f) {
                        count += weights ? weighted_ones_of(block, w, size, &odd, &fan) : ones_of(block, size, &odd);
                        continue;
                    }
                    if (unit != 1.0f) {
                        in_units(block, scratch, size, unit, near, relative);
                        block = scratch;
                    }
                    count += values_of(block, size, &total, &flags);
                    if (weights) {
                        fan += weighted_ones(block, w, size);
                        fan_total += weighted_values(block, w, size);
                    }
                    if (low_high) {
                        float least = INFINITY, most = -INFINITY;
#pragma omp simd reduction(min : least) reduction(max : most)
                        for (i64 i = 0; i < size; i++) {
                            least = block[i] < least ? block[i] : least;
                            most = block[i] > most ? block[i] : most;
                        }
                        low = least < low ? least : low;
                        high = most > high ? most : high;
                    }
                }
                flags |= odd ? NOT_BINARY : 0;
#pragma omp atomic
                nonzero[r] += count;
                if (weights) {
#pragma omp atomic
                    fan_nonzero[r] += fan;
                }
                if (unit != 0.0f) {
#pragma omp atomic
                    sum[r] += total;
                    if (weights) {
#pragma omp atomic
                        fan_sum[r] += fan_total;
                    }
                }
            }
        free(spread);
        free(scratch);
    }
    if (low_high) low_high[0] = low, low_high[1] = high;
    return flags;
}

/* A sum as an integer; one that is none, or beyond 2^62, is -1, which no sum of |value| is. */
static i64 whole_of(double sum) { return sum < 4611686018427387904.0 ? (i64)sum : -1; }

/* Marginals of matrices: for each of them and each kept index k, the non-zeros (or, `by_value`, the sum of |value| in
   units of `unit`) over the `reduced` index.

   Matrix m begins at x + at[m]; an element lies at k * kept_step + r * reduced_step behind that. out [matrices][kept] is
   written. Returns the flags of the values where `by_value` or a unit other than 1 asks for them, else NOT_BINARY or 0. */
i64 spikeattn_marginals(const float *x, const i64 *at, i64 matrices, i64 kept, i64 kept_step, i64 reduced,
                        i64 reduced_step, float unit, float near, float relative, int by_value, i64 *out, int threads) {
    const int rounded = unit != 1.0f;
    int flags = 0;
#pragma omp parallel num_threads(threads) reduction(| : flags)
    {
        float *scratch = malloc(sizeof(float) * BLOCK);
        int32_t *counts = malloc(sizeof(int32_t) * BLOCK);
        double *sums = malloc(sizeof(double) * BLOCK);
#pragma omp for schedule(static)
        for (i64 m = 0; m < matrices; m++) {
            const float *matrix = x + at[m];
            i64 *to = out + m * kept;
            if (kept_step == 1) { /* rows lie side by side: their elements are added to a row of counts */
                for (i64 first = 0; first < kept; first += BLOCK) {
                    const i64 size = first + BLOCK < kept ? BLOCK : kept - first;
                    memset(counts, 0, sizeof(int32_t) * (size_t)size);
                    memset(sums, 0, sizeof(double) * (size_t)size);
                    int32_t other = 0;
                    for (i64 r = 0; r < reduced; r++) {
                        const float *row = matrix + r * reduced_step + first;
                        if (rounded) {
                            in_units(row, scratch, size, unit, near, relative);
                            row = scratch;
                        }
                        if (by_value) {
                            double ignored = 0;
                            values_of(row, size, &ignored, &flags);
#pragma omp simd
                            for (i64 i = 0; i < size; i++) sums[i] += fabs((double)row[i]);
                        } else {
#pragma omp simd reduction(| : other)
                            for (i64 i = 0; i < size; i++) {
                                const int32_t bits = bits_of(row[i]), some = (bits & 0x7fffffff) != 0;
                                counts[i] += some;
                                other |= some & (bits != 0x3f800000);
                            }
                        }
                    }
                    flags |= other ? NOT_BINARY : 0;
                    for (i64 i = 0; i < size; i++) to[first + i] = by_value ? whole_of(sums[i]) : counts[i];
                }
                continue;
            }
            for (i64 k = 0; k < kept; k++) { /* columns lie side by side, or neither: one count after another */
                i64 count = 0;
                double total = 0;
                int32_t odd = 0;
                for (i64 first = 0; first < reduced; first += BLOCK) {
                    const i64 size = first + BLOCK < reduced ? BLOCK : reduced - first;
                    const float *part = matrix + k * kept_step + first * reduced_step;
                    if (reduced_step != 1) {
                        for (i64 i = 0; i < size; i++) scratch[i] = part[i * reduced_step];
                        part = scratch;
                    }
                    if (rounded) {
                        in_units(part, scratch, size, unit, near, relative);
                        part = scratch;
                    }
                    if (by_value)
                        count += values_of(part, size, &total, &flags);
                    else
                        count += ones_of(part, size, &odd);
                }
                flags |= odd ? NOT_BINARY : 0;
                to[k] = by_value ? whole_of(total) : count;
            }
        }
        free(sums);
        free(counts);
        free(scratch);
    }
    return flags;
}
