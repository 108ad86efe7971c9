/* A batch norm of fixed statistics in front of a neuron: what it gives, as PyTorch rounds it. */

#ifndef NORM_H
#define NORM_H

#include <math.h>
#include <stdint.h>

typedef int64_t i64;

/* Of maps [..., C, P]; `fused`: multiplied and added with one rounding. */
struct norm {
    const float *scale, *shift;
    i64 C, P;
    i64 fused;
};

static inline void affine_row(const float *restrict x, float *restrict y, i64 n, float a, float b, i64 fused) {
    if (fused)
        for (i64 i = 0; i < n; i++) y[i] = fmaf(x[i], a, b);
    else
        for (i64 i = 0; i < n; i++) y[i] = x[i] * a + b;
}

/* The n numbers of x, which begin `offset` behind the beginning of the maps. */
static inline void normalise(const float *x, float *y, i64 n, i64 offset, const struct norm *norm) {
    const i64 P = norm->P;
    i64 at = offset % (norm->C * P);
    for (i64 i = 0; i < n;) {
        const i64 c = at / P, run = P - at % P < n - i ? P - at % P : n - i;
        affine_row(x + i, y + i, run, norm->scale[c], norm->shift[c], norm->fused);
        i += run;
        at = at + run == norm->C * P ? 0 : at + run;
    }
}

#endif
