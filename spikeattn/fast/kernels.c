/* Spike-driven inference on the CPU: neurons that count, pools and masks of bytes, convolutions of real numbers; those
   of spikes are in spike_conv.c.

   Memory is [N][H][W][C]: channels last; N = T * B images, all images of a time step together. Spikes are bytes, 0 or 1.
   Every sum runs in one fixed order (bias, then taps in raster order, then channels), without fused multiply-add, so
   results depend neither on threads nor on the batch nor on the width of the processor's vectors.

   Compile with -ffp-contract=off and without -ffast-math. */

#include <stdlib.h>
#include <string.h>

#include "charge.h"

#define LANES 8
#define WIDTH 64   /* output channels that a convolution keeps in registers */
#define BLOCK 32   /* of a row of weights, and */
#define SUPER 2048 /* channels behind a row of -0.0, as spike_conv.c has them */
#define CHUNK 4096 /* membrane potentials that a neuron keeps in the first cache */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

/* A leaky integrate-and-fire neuron from rest, see charge.h.

   x [T][B][P][C] (`step` floats from one time step to the next: 0 for a still image) -> spikes.
   counts [T][B] and fans [T][B] are added to; `weights` [P] is the fan-out of each position, or NULL.
   Returns how many potentials are NaN or infinite at the end: they would pass for silence. */
i64 spikeattn_lif(const float *x, i64 step, uint8_t *spikes, i64 T, i64 B, i64 P, i64 C, float tau, int multiply,
                  float threshold, const i64 *weights, i64 *counts, i64 *fans, int threads) {
    const i64 block = C >= CHUNK ? 1 : CHUNK / C, blocks = (P + block - 1) / block;
    i64 nonfinite = 0;
#pragma omp parallel num_threads(threads) reduction(+ : nonfinite)
    {
        float *v = malloc(sizeof(float) * (size_t)(block * C));
#pragma omp for collapse(2) schedule(static)
        for (i64 b = 0; b < B; b++)
            for (i64 k = 0; k < blocks; k++) {
                const i64 first = k * block, last = first + block < P ? first + block : P;
                const i64 size = (last - first) * C;
                memset(v, 0, sizeof(float) * (size_t)size);
                for (i64 t = 0; t < T; t++) {
                    const float *in = x + t * step + (b * P + first) * C;
                    uint8_t *out = spikes + ((t * B + b) * P + first) * C;
                    spikeattn_charge(in, v, out, size, tau, multiply, threshold);
                    i64 count = 0, fan = 0;
                    for (i64 p = first; p < last; p++) {
                        const uint8_t *row = out + (p - first) * C;
                        int32_t here = 0;
                        for (i64 c = 0; c < C; c++) here += row[c];
                        count += here;
                        if (weights) fan += here * weights[p];
                    }
#pragma omp atomic
                    counts[t * B + b] += count;
                    if (weights) {
#pragma omp atomic
                        fans[t * B + b] += fan;
                    }
                }
                int32_t bad = 0;
                for (i64 i = 0; i < size; i++) bad += v[i] - v[i] != 0.0f;
                nonfinite += bad;
            }
        free(v);
    }
    return nonfinite;
}

/* 3x3 max-pool with padding 1 of spikes [N][H][W][C] -> [N][(H-1)/stride+1][(W-1)/stride+1][C], with counts as above. */
void spikeattn_pool(const uint8_t *x, uint8_t *y, i64 N, i64 H, i64 W, i64 C, i64 stride, const i64 *weights,
                    i64 *counts, i64 *fans, int threads) {
    const i64 rows = (H - 1) / stride + 1, columns = (W - 1) / stride + 1;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++)
        for (i64 r = 0; r < rows; r++) {
            i64 count = 0, fan = 0;
            for (i64 q = 0; q < columns; q++) {
                uint8_t *out = y + ((n * rows + r) * columns + q) * C;
                memset(out, 0, (size_t)C);
                for (i64 i = r * stride - 1; i <= r * stride + 1; i++)
                    for (i64 j = q * stride - 1; j <= q * stride + 1; j++) {
                        if (i < 0 || j < 0 || i >= H || j >= W) continue;
                        const uint8_t *in = x + ((n * H + i) * W + j) * C;
                        for (i64 c = 0; c < C; c++) out[c] |= in[c];
                    }
                int32_t here = 0;
                for (i64 c = 0; c < C; c++) here += out[c];
                count += here;
                if (weights) fan += here * weights[r * columns + q];
            }
#pragma omp atomic
            counts[n] += count;
            if (weights) {
#pragma omp atomic
                fans[n] += fan;
            }
        }
}

/* The same pool of real numbers; a NaN is the maximum of its window. */
void spikeattn_pool_real(const float *x, float *y, i64 N, i64 H, i64 W, i64 C, i64 stride, int threads) {
    const i64 rows = (H - 1) / stride + 1, columns = (W - 1) / stride + 1;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++)
        for (i64 r = 0; r < rows; r++)
            for (i64 q = 0; q < columns; q++) {
                float *out = y + ((n * rows + r) * columns + q) * C;
                int empty = 1;
                for (i64 i = r * stride - 1; i <= r * stride + 1; i++)
                    for (i64 j = q * stride - 1; j <= q * stride + 1; j++) {
                        if (i < 0 || j < 0 || i >= H || j >= W) continue;
                        const float *in = x + ((n * H + i) * W + j) * C;
                        if (empty)
                            memcpy(out, in, sizeof(float) * (size_t)C);
                        else
                            for (i64 c = 0; c < C; c++) out[c] = (in[c] > out[c] || in[c] != in[c]) ? in[c] : out[c];
                        empty = 0;
                    }
            }
}

/* AND of spikes a [N][P][C] and b [N][P][C], or [N][1][C] with `one`; counts [N] are added to.
   votes [N][C] (or NULL) gets the sum over positions. */
void spikeattn_mask(const uint8_t *a, const uint8_t *b, int one, uint8_t *y, float *votes, i64 N, i64 P, i64 C,
                    i64 *counts, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++) {
        if (votes) memset(votes + n * C, 0, sizeof(float) * (size_t)C);
        for (i64 p = 0; p < P; p++) {
            const uint8_t *left = a + (n * P + p) * C, *right = b + (one ? n : n * P + p) * C;
            uint8_t *out = y + (n * P + p) * C;
            int32_t here = 0;
            for (i64 c = 0; c < C; c++) {
                out[c] = left[c] & right[c];
                here += out[c];
            }
            counts[n] += here;
            if (votes)
                for (i64 c = 0; c < C; c++) votes[n * C + c] += (float)out[c];
        }
    }
}

/* Mean over positions: x [N][P][C] -> y [N][C]. */
void spikeattn_mean(const float *x, float *y, i64 N, i64 P, i64 C, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++) {
        float *out = y + n * C;
        memcpy(out, x + n * P * C, sizeof(float) * (size_t)C);
        for (i64 p = 1; p < P; p++)
            for (i64 c = 0; c < C; c++) out[c] += x[(n * P + p) * C + c];
        for (i64 c = 0; c < C; c++) out[c] /= (float)P;
    }
}

/* Convolution with stride 1 and padding K / 2 (K odd) of real numbers [N][H][W][I] -> [N][H][W][O]: one multiplication
   and one addition per weight. Weights, and the order of additions, are those of spike_conv.c. */
void spikeattn_conv_real(const float *x, const float *weights, const float *bias, float *y, i64 N, i64 H, i64 W, i64 I,
                         i64 O, i64 K, int threads) {
    const i64 half = K / 2, taps = K * K, groups = (O + WIDTH - 1) / WIDTH;
    const i64 rows = I + (I + SUPER - 1) / SUPER, apart = taps * rows * BLOCK;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++)
        for (i64 r = 0; r < H; r++)
            for (i64 g = 0; g < groups; g++) {
                const float *own = weights + g * (WIDTH / BLOCK) * apart;
                const i64 width = O - g * WIDTH < WIDTH ? O - g * WIDTH : WIDTH;
                for (i64 s = 0; s < W; s++) {
                    vec a[WIDTH / LANES];
                    memcpy(a, bias + g * WIDTH, sizeof(a));
                    for (i64 i = 0; i < K; i++) {
                        const i64 row = r + i - half;
                        if (row < 0 || row >= H) continue;
                        for (i64 j = 0; j < K; j++) {
                            const i64 column = s + j - half;
                            if (column < 0 || column >= W) continue;
                            const float *in = x + ((n * H + row) * W + column) * I;
                            const float *tap = own + (i * K + j) * rows * BLOCK;
                            for (i64 c = 0; c < I; c++) {
                                const float *at = tap + (c + c / SUPER + 1) * BLOCK;
                                for (int l = 0; l < WIDTH / LANES; l++) {
                                    const vec *w = (const vec *)(at + l * LANES / BLOCK * apart);
                                    a[l] += in[c] * w[l % (BLOCK / LANES)];
                                }
                            }
                        }
                    }
                    memcpy(y + ((n * H + r) * W + s) * O + g * WIDTH, a, sizeof(float) * (size_t)width);
                }
            }
}
