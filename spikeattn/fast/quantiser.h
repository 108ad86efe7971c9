/* Neurons of integers without state: round(clamp(x, low, high)), divided by `scale` or multiplied with it. */

#ifndef QUANTISER_H
#define QUANTISER_H

#include <math.h>
#include <stdint.h>

#include "norm.h"

enum { QUANTISED = 4096 }; /* as many as a block has, of whoever asks */

struct quantiser {
    float low, high, scale;
    int32_t multiplies;
};

/* Zeros keep their sign, NaN stays NaN. */
static inline void quantise_row(const float *restrict x, float *restrict y, i64 n, const struct quantiser *q) {
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

/* At most QUANTISED numbers from `first` on; `norm`: of the batch norm whose output x is still to become, or NULL. */
static inline void quantise(const float *x, float *y, i64 first, i64 n, const struct quantiser *q, const struct norm *norm) {
    float normed[QUANTISED];
    if (norm) normalise(x + first, normed, n, first, norm);
    quantise_row(norm ? normed : x + first, y + first, n, q);
}

#endif
