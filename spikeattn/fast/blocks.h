/* What a block of values holds: non-zero elements, sums of |value|, fan-out-weighted sums, what the values are.

   Whole numbers are counted in integers and added in float32 up to 2^24 and in double behind that, so the order of
   additions, and with it the number of threads, changes nothing. A sum over values that are no integers is not used. */

#ifndef BLOCKS_H
#define BLOCKS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;

/* Elements of a block: 16 KiB stay in the first cache while several sums read them; 4096 weights below 2^19, which the
   caller sees to, add up to less than 2^31, and 4096 values of at most 4096 to 2^24, which float32 still counts. */
enum { BLOCK = 4096, LEAST = 1 << 15 };

/* Double holds every whole number up to here. */
#define LARGEST 9007199254740992.0

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
static inline void in_units(const float *x, float *out, i64 n, float unit, float near, float relative) {
#pragma omp simd
    for (i64 i = 0; i < n; i++) out[i] = rounded_if_near(x[i] / unit, near, relative);
}

/* Non-zeros of a block that should hold 0 and 1 alone; `odd` takes a bit of whatever else is there. -0.0 is a zero. */
static inline int32_t ones_of(const float *restrict x, i64 n, int32_t *odd) {
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
static inline int32_t weighted_ones_of(const float *restrict x, const int32_t *restrict w, i64 n, int32_t *odd, i64 *fan) {
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
static inline double weighted_values(const float *restrict x, const int32_t *restrict w, i64 n) {
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

static inline void values_of(const float *x, i64 n, struct found *to) { add_values(x, NULL, n, 0, to); }

static inline void weighted_values_of(const float *x, const int32_t *w, i64 n, int32_t heaviest, struct found *to) {
    add_values(x, w, n, heaviest, to);
}

/* The lowest and the highest value of a tensor. */
struct range {
    float low, high;
};

/* What `add_values` adds for a block in units, and its range; 0, with nothing added, where a value is no integer (but for
   rounding errors, unless `exact`) or beyond LARGE: then the sums are to be taken in another way. */
static inline __attribute__((always_inline)) int add_integers(const float *restrict x, const int32_t *restrict w, i64 n,
                                                              int weighs, int divides, int exact, float unit, float near,
                                                              float relative, int32_t heaviest, struct found *to,
                                                              struct range *range) {
    int32_t nonzero = 0, odd = 0, weighted = 0;
    uint32_t weighed = 0; /* unsigned: it may overflow, and is not used then */
    float total = 0, low = INFINITY, high = -INFINITY; /* float32 counts up to LARGE * BLOCK */
#pragma omp simd reduction(+ : nonzero, total, weighted, weighed) reduction(| : odd) reduction(min : low)              \
    reduction(max : high)
    for (i64 i = 0; i < n; i++) {
        const float multiple = divides ? x[i] / unit : x[i] * unit, rounded = rintf(multiple), size = fabsf(rounded);
        const float slack = size * relative, allowed = slack > near ? slack : near;
        const int32_t some = rounded != 0.0f;
        odd |= exact ? !(multiple == rounded) : !(fabsf(multiple - rounded) <= allowed); /* NaN and infinities too */
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

/* One vector loop for each way of asking; `weighs`, `divides` and `exact` are constants there. */
#define INTEGERS(NAME, WEIGHS, DIVIDES, EXACT)                                                                         \
    static inline int NAME(const float *x, const int32_t *w, i64 n, float unit, float near, float relative, int32_t heaviest, \
                    struct found *to, struct range *range) {                                                           \
        return add_integers(x, w, n, WEIGHS, DIVIDES, EXACT, unit, near, relative, heaviest, to, range);               \
    }
INTEGERS(plain_exact, 0, 0, 1)
INTEGERS(weighed_exact, 1, 0, 1)
INTEGERS(plain_multiples, 0, 0, 0)
INTEGERS(plain_quotients, 0, 1, 0)
INTEGERS(weighed_multiples, 1, 0, 0)
INTEGERS(weighed_quotients, 1, 1, 0)

/* 1 / unit where that is exact, and to multiply with it gives what to divide by the unit gives; else 0. */
static inline float inverse_of(float unit) {
    int exponent;
    return frexpf(unit, &exponent) == 0.5f && exponent > -100 && exponent < 100 ? 1.0f / unit : 0.0f;
}

/* Count a block in units; `scratch` has room for it. `real`: its values are known to be no integers. */
static inline void count_block(const float *block, const int32_t *w, i64 size, float unit, float near, float relative, int real,
                        int32_t heaviest, float *scratch, struct found *to, struct range *range) {
    const float inverse = inverse_of(unit);
    /* Most blocks hold exact multiples, for which less is to be worked out. */
    if (!real && inverse != 0.0f && (w ? weighed_exact : plain_exact)(block, w, size, inverse, 0, 0, heaviest, to, range))
        return;
    if (!real && unit != 1.0f &&
        (inverse != 0.0f ? (w ? weighed_multiples : plain_multiples)(block, w, size, inverse, near, relative, heaviest, to, range)
                         : (w ? weighed_quotients : plain_quotients)(block, w, size, unit, near, relative, heaviest, to, range)))
        return;
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

#endif
