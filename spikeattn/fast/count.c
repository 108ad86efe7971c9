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

/* Double holds every whole number up to here. */
#define LARGEST 9007199254740992.0

/* Rows of a matrix shorter than this are read several at a time. */
enum { SHORT = 512 };

/* Values from here on are weighed in double; below, no product with a weight is beyond 2^31. */
#define LARGE 4095.0f

/* What `flags` says of a tensor's values. */
enum { FRACTION = 1, NEGATIVE = 2, ABOVE = 4, NOT_BINARY = 8, NOT_A_NUMBER = 16, INEXACT = 32 };

static inline int32_t bits_of(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A multiple of a unit, rounded where it is a whole one but for rounding errors (`near` in units, or `relative` of the
   multiple, whichever is more). The same as `whole` of kinds.py. */
static inline float rounded_if_near(float multiple, float near, float relative) {
    const float rounded = rintf(multiple), slack = fabsf(rounded) * relative, allowed = slack > near ? slack : near;
    return fabsf(multiple - rounded) <= allowed ? rounded : multiple;
}

/* Values of a block in units of `unit`. `out` may be `x`. */
static void in_units(const float *x, float *out, i64 n, float unit, float near, float relative) {
#pragma omp simd
    for (i64 i = 0; i < n; i++) out[i] = rounded_if_near(x[i] / unit, near, relative);
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

/* What is added up over the blocks of a row. */
struct found {
    i64 nonzero, fan;
    double sum, fan_sum;
    int flags;
};

/* The sum of the weighed values of a block, whatever they are. */
static double weighted_values(const float *restrict x, const int32_t *restrict w, i64 n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (i64 i = 0; i < n; i++) sum += fabs((double)x[i]) * w[i];
    return sum;
}

/* Non-zeros of a block, its sum of |value| and its flags; weighed, too, with w[0..n) where that is not NULL. */
static inline __attribute__((always_inline)) void add_values(const float *restrict x, const int32_t *restrict w, i64 n,
                                                             int32_t heaviest, struct found *to) {
    int32_t nonzero = 0, fraction = 0, below = 0, above = 0, none = 0, weighted = 0;
    uint32_t weighed = 0; /* unsigned: it may overflow, and is not used then */
    float total = 0, largest = 0;
#pragma omp simd reduction(+ : nonzero, total, weighted, weighed) reduction(| : fraction, below, above, none)          \
    reduction(max : largest)
    for (i64 i = 0; i < n; i++) {
        const float value = x[i], size = fabsf(value);
        const int32_t some = value != 0.0f;
        nonzero += some;
        fraction |= value != truncf(value); /* NaN too */
        none |= value != value;
        below |= value < 0.0f;
        above |= size > 1.0f;
        total += size;
        largest = size > largest ? size : largest;
        if (w) {
            weighted += -some & w[i];
            weighed += (uint32_t)(int32_t)(size < LARGE ? size : LARGE) * (uint32_t)w[i];
        }
    }
    if (largest > BLOCK && !fraction) { /* more than float32 counts */
        double exact = 0;
        for (i64 i = 0; i < n; i++) exact += fabs((double)x[i]);
        to->sum += exact;
    } else
        to->sum += total;
    to->nonzero += nonzero;
    to->flags |= (fraction ? FRACTION : 0) | (below ? NEGATIVE : 0) | (above ? ABOVE : 0);
    to->flags |= (fraction || below || above ? NOT_BINARY : 0) | (none ? NOT_A_NUMBER : 0);
    if (w) {
        to->fan += weighted;
        /* The integers are right where they have not overflowed. */
        const int fits = !fraction && largest <= LARGE && (double)largest * heaviest * (double)n < 2147483648.0;
        to->fan_sum += fits ? weighed : weighted_values(x, w, n);
    }
}

static void values_of(const float *x, i64 n, struct found *to) { add_values(x, NULL, n, 0, to); }

static void weighted_values_of(const float *x, const int32_t *w, i64 n, int32_t heaviest, struct found *to) {
    add_values(x, w, n, heaviest, to);
}

/* The lowest and the highest value of a tensor. */
struct range {
    float low, high;
};

/* What `add_values` adds for a block in units, and its range; 0, with nothing added, where a value is no integer (but for
   rounding errors) or beyond LARGE: then the sums are to be taken in another way. */
static inline __attribute__((always_inline)) int add_integers(const float *restrict x, const int32_t *restrict w, i64 n,
                                                              int weighs, int divides, float unit, float near, float relative,
                                                              int32_t heaviest, struct found *to, struct range *range) {
    int32_t nonzero = 0, odd = 0, weighted = 0;
    uint32_t weighed = 0; /* unsigned: it may overflow, and is not used then */
    float total = 0, low = INFINITY, high = -INFINITY; /* float32 counts up to LARGE * BLOCK */
#pragma omp simd reduction(+ : nonzero, total, weighted, weighed) reduction(| : odd) reduction(min : low)              \
    reduction(max : high)
    for (i64 i = 0; i < n; i++) {
        const float multiple = divides ? x[i] / unit : x[i] * unit, rounded = rintf(multiple), size = fabsf(rounded);
        const float slack = size * relative, allowed = slack > near ? slack : near;
        const int32_t some = rounded != 0.0f;
        odd |= !(fabsf(multiple - rounded) <= allowed); /* NaN and infinities too */
        nonzero += some;
        total += size;
        low = rounded < low ? rounded : low;
        high = rounded > high ? rounded : high;
        if (weighs) {
            weighted += -some & w[i];
            weighed += (uint32_t)(int32_t)(size < LARGE ? size : LARGE) * (uint32_t)w[i];
        }
    }
    const float largest = high > -low ? high : -low;
    if (odd || largest > LARGE || (weighs && (double)largest * heaviest * (double)n >= 2147483648.0)) return 0;
    to->nonzero += nonzero;
    to->sum += total;
    to->fan += weighted;
    to->fan_sum += weighed;
    to->flags |= (low < 0 ? NEGATIVE : 0) | (largest > 1 ? ABOVE : 0) | (low < 0 || largest > 1 ? NOT_BINARY : 0);
    range->low = low < range->low ? low : range->low;
    range->high = high > range->high ? high : range->high;
    return 1;
}

/* One vector loop for each way of asking; `weighs` and `divides` are constants there. */
#define INTEGERS(NAME, WEIGHS, DIVIDES)                                                                                \
    static int NAME(const float *x, const int32_t *w, i64 n, float unit, float near, float relative, int32_t heaviest, \
                    struct found *to, struct range *range) {                                                           \
        return add_integers(x, w, n, WEIGHS, DIVIDES, unit, near, relative, heaviest, to, range);                      \
    }
INTEGERS(plain_multiples, 0, 0)
INTEGERS(plain_quotients, 0, 1)
INTEGERS(weighed_multiples, 1, 0)
INTEGERS(weighed_quotients, 1, 1)

/* 1 / unit where that is exact, and to multiply with it gives what to divide by the unit gives; else 0. */
static float inverse_of(float unit) {
    int exponent;
    return frexpf(unit, &exponent) == 0.5f && exponent > -100 && exponent < 100 ? 1.0f / unit : 0.0f;
}

/* Count a block in units; `scratch` has room for it. `real`: its values are known to be no integers. */
static void count_block(const float *block, const int32_t *w, i64 size, float unit, float near, float relative, int real,
                        int32_t heaviest, float *scratch, struct found *to, struct range *range) {
    const float inverse = inverse_of(unit), around = unit == 1.0f ? 0.0f : near, by = unit == 1.0f ? 0.0f : relative;
    const int done =
        real ? 0
        : inverse != 0.0f
            ? (w ? weighed_multiples : plain_multiples)(block, w, size, inverse, around, by, heaviest, to, range)
            : (w ? weighed_quotients : plain_quotients)(block, w, size, unit, around, by, heaviest, to, range);
    if (done) return;
    if (unit != 1.0f) {
        in_units(block, scratch, size, unit, near, relative);
        block = scratch;
    }
    if (w)
        weighted_values_of(block, w, size, heaviest, to);
    else
        values_of(block, size, to);
    float least = INFINITY, most = -INFINITY;
#pragma omp simd reduction(min : least) reduction(max : most)
    for (i64 i = 0; i < size; i++) {
        least = block[i] < least ? block[i] : least;
        most = block[i] > most ? block[i] : most;
    }
    range->low = least < range->low ? least : range->low;
    range->high = most > range->high ? most : range->high;
}

/* Count rows, each of `parts` pieces of n elements side by side; piece i of all, of row i / parts, lies at x + at[i].

   unit: 0 where the tensor should hold 0 and 1 alone (its sums are left alone then); else what its values are multiples
   of, with `near` and `relative`; they are no integers if `real`.
   weights: of an element i weights[(i / inner) % space], or NULL.
   out: [4][rows], the non-zeros, those weighed, the sums and those weighed; 0 where nobody asks. low_high [2] takes the
   extremes of values that hold no NaN, or is NULL. Returns the flags. */
i64 spikeattn_count(const float *x, const i64 *at, i64 rows, i64 parts, i64 n, float unit, float near, float relative,
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
                    const float *block = x + at[i] + (b / pieces) * run + start;
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
