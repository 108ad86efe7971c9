/* Neurons of integers without state: round(clamp(x, low, high)), divided by `scale` or multiplied with it. */

#ifndef QUANTISER_H
#define QUANTISER_H

#include <math.h>
#include <stdint.h>

typedef int64_t i64;

struct quantiser {
    float low, high, scale;
    int32_t multiplies;
};

/* A block of its output. Zeros keep their sign, NaN stays NaN. */
static inline void quantise(const float *restrict x, float *restrict y, i64 n, const struct quantiser *q) {
    const float low = q->low, high = q->high, scale = q->scale;
    if (q->multiplies)
        for (i64 i = 0; i < n; i++) {
            const float s = x[i] < low ? low : x[i];
            y[i] = rintf(s > high ? high : s) * scale;
        }
    else
        for (i64 i = 0; i < n; i++) {
            const float s = x[i] < low ? low : x[i];
            y[i] = rintf(s > high ? high : s) / scale;
        }
}

#endif
