/* Neurons and layers of other people's networks on the CPU: the arithmetic of PyTorch's operations, one after another and
   each rounded, so that every bit is theirs; in one pass over the memory, with the spikes counted on the way.

   Memory is contiguous in the order of the axes, spikes are float32 as the layers behind them read.

   Compile with -ffp-contract=off and without -ffast-math. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "charge.h"
#include "norm.h"
#include "quantiser.h"

#define BLOCK 4096 /* membrane potentials at work: they stay in the first cache for all time steps */

/* How a neuron charges; `a` and `b` are constants of its own (fused_neuron.py has the same numbers). */
enum { INTEGRATE, DIVIDE, DIVIDE_LEAK, MULTIPLY, MULTIPLY_LEAK, DECAY };

/* One time step of a block: `v` is charged, fires at `threshold` and is reset; the number of spikes is returned. */
#define STEP(NAME, CHARGE, RESET)                                                                                      \
    static int32_t NAME(const float *restrict in, float *restrict v, float *restrict out, i64 size, float a, float r,  \
                        float threshold) {                                                                             \
        int32_t fired = 0;                                                                                             \
        for (i64 i = 0; i < size; i++) {                                                                               \
            const float u = v[i], x = in[i];                                                                           \
            const float h = CHARGE;                                                                                    \
            const float s = h >= threshold ? 1.0f : 0.0f;                                                              \
            out[i] = s;                                                                                                \
            fired += h >= threshold;                                                                                   \
            v[i] = RESET;                                                                                              \
        }                                                                                                              \
        (void)a, (void)r;                                                                                              \
        return fired;                                                                                                  \
    }
#define BOTH(NAME, CHARGE)                                                                                             \
    STEP(NAME##_hard, CHARGE, s * r + (1.0f - s) * h)                                                                  \
    STEP(NAME##_soft, CHARGE, h - s * threshold)

BOTH(integrate, u + x)
BOTH(divide, u + (x - (u - r)) / a)
BOTH(divide_leak, u - (u - r) / a + x)
BOTH(multiply, u + (x - (u - r)) * a)
BOTH(multiply_leak, u - (u - r) * a + x)
BOTH(decay, u * a + x)

typedef int32_t (*step_of)(const float *, float *, float *, i64, float, float, float);

static const step_of STEPS[][2] = {
    [INTEGRATE] = {integrate_hard, integrate_soft},
    [DIVIDE] = {divide_hard, divide_soft},
    [DIVIDE_LEAK] = {divide_leak_hard, divide_leak_soft},
    [MULTIPLY] = {multiply_hard, multiply_soft},
    [MULTIPLY_LEAK] = {multiply_leak_hard, multiply_leak_soft},
    [DECAY] = {decay_hard, decay_soft},
};

/* The sum of the fan-outs of the positions that have fired; `weights` repeat every P elements, the first is at `at`. */
static i64 weigh(const float *out, i64 size, const int32_t *weights, i64 P, i64 at) {
    i64 total = 0;
    for (i64 i = 0; i < size;) {
        const i64 run = P - at < size - i ? P - at : size - i;
        int32_t here = 0; /* below 2^31: the caller keeps every weight below 2^31 / BLOCK */
        for (i64 j = 0; j < run; j++) here += out[i + j] != 0.0f ? weights[at + j] : 0;
        total += here;
        i += run;
        at = 0;
    }
    return total;
}

/* A neuron over T time steps: x [T][B][K] (`step` floats from one to the next; 0 where all are the same) -> spikes.

   norm: of the batch norm whose output x is still to become, or NULL.
   v [B][K] holds the potentials before the first step, and those after the last one at the end.
   counts [T][B] and fans [T][B] are added to; `weights` [P] are fan-outs, or NULL.
   Returns how many potentials are NaN or infinite at the end. */
i64 spikeattn_neuron(const float *x, i64 step, float *v, float *spikes, i64 T, i64 B, i64 K, int charge, int soft,
                     float a, float r, float threshold, const int32_t *weights, i64 P, i64 *counts, i64 *fans,
                     const struct norm *norm, int threads) {
    const step_of run = STEPS[charge][soft];
    const i64 blocks = (K + BLOCK - 1) / BLOCK;
    i64 nonfinite = 0;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) reduction(+ : nonfinite)
    for (i64 b = 0; b < B; b++)
        for (i64 k = 0; k < blocks; k++) {
            const i64 first = k * BLOCK, size = K - first < BLOCK ? K - first : BLOCK;
            float *own = v + b * K + first;
            float normed[BLOCK];
            for (i64 t = 0; t < T; t++) {
                float *out = spikes + (t * B + b) * K + first;
                const i64 offset = t * step + b * K + first;
                if (norm) normalise(x + offset, normed, size, offset, norm);
                const int32_t fired = run(norm ? normed : x + offset, own, out, size, a, r, threshold);
#pragma omp atomic
                counts[t * B + b] += fired;
                if (weights) {
                    const i64 fan = weigh(out, size, weights, P, first % P);
#pragma omp atomic
                    fans[t * B + b] += fan;
                }
            }
            int32_t bad = 0;
            for (i64 i = 0; i < size; i++) bad += own[i] - own[i] != 0.0f;
            nonfinite += bad;
        }
    return nonfinite;
}

/* An integrate-and-fire neuron of several levels: h = decay * v + x, as many spikes as fit, 0 to `most`, taken off h. */
void spikeattn_levels(const float *x, i64 step, float *v, float *spikes, i64 T, i64 N, float decay, float threshold,
                      float most, int threads) {
    const i64 blocks = (N + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 k = 0; k < blocks; k++) {
        const i64 first = k * BLOCK, size = N - first < BLOCK ? N - first : BLOCK;
        float *restrict own = v + first;
        for (i64 t = 0; t < T; t++) {
            const float *restrict in = x + t * step + first;
            float *restrict out = spikes + t * N + first;
            for (i64 i = 0; i < size; i++) {
                const float h = decay * own[i] + in[i], scaled = h / threshold;
                float s = scaled < 0.0f ? 0.0f : scaled;
                s = s > most ? most : s;
                s = rintf(s) + (scaled - scaled); /* NaN stays NaN, as infinity becomes */
                out[i] = s;
                own[i] = h - s * threshold;
            }
        }
    }
}

/* A neuron of integers without state; see `quantiser.h`. */
void spikeattn_quantise(const float *x, float *y, i64 N, const struct quantiser *q, const struct norm *norm, int threads) {
    const i64 blocks = (N + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (i64 k = 0; k < blocks; k++) {
        const i64 first = k * BLOCK, size = N - first < BLOCK ? N - first : BLOCK;
        quantise(x, y, first, size, q, norm);
    }
}

static inline float larger(float most, float x) { return x > most || x != x ? x : most; }

/* Maximum of windows of `kernel` x `kernel`, of N maps [H][W] -> [R][Q]; beyond the border nothing is larger.

   norm: of the batch norm whose output x is still to become, or NULL. The windows of one row first, then those rows: of equal numbers the first one in raster order is kept, and a NaN is
   the maximum of its window, both as in PyTorch. */
void spikeattn_max_pool(const float *x, float *y, i64 N, i64 H, i64 W, i64 R, i64 Q, i64 kernel, i64 stride, i64 padding,
                        const struct norm *norm, int threads) {
#pragma omp parallel num_threads(threads)
    {
        const i64 wide = (Q - 1) * stride + kernel > W + padding ? (Q - 1) * stride + kernel : W + padding;
        float *line = malloc(sizeof(float) * (size_t)(wide + kernel * Q));
        float *rows = line + wide; /* of the last `kernel` rows, by row modulo `kernel` */
        for (i64 i = 0; i < wide; i++) line[i] = -INFINITY;
#pragma omp for schedule(static)
        for (i64 n = 0; n < N; n++) {
            i64 done = -1; /* the last row that is in `rows` */
            for (i64 r = 0; r < R; r++) {
                const i64 from = r * stride - padding, first = from < 0 ? 0 : from;
                const i64 last = from + kernel - 1 < H - 1 ? from + kernel - 1 : H - 1;
                for (i64 i = done + 1 > first ? done + 1 : first; i <= last; i++) {
                    float *restrict row = rows + i % kernel * Q;
                    const i64 start = (n * H + i) * W;
                    if (norm)
                        normalise(x + start, line + padding, W, start, norm);
                    else
                        memcpy(line + padding, x + start, sizeof(float) * (size_t)W);
                    if (kernel == 3 && stride == 2)
                        for (i64 q = 0; q < Q; q++)
                            row[q] = larger(larger(larger(-INFINITY, line[2 * q]), line[2 * q + 1]), line[2 * q + 2]);
                    else if (kernel == 2 && stride == 2)
                        for (i64 q = 0; q < Q; q++) row[q] = larger(larger(-INFINITY, line[2 * q]), line[2 * q + 1]);
                    else
                        for (i64 q = 0; q < Q; q++) {
                            float most = -INFINITY;
                            for (i64 j = 0; j < kernel; j++) most = larger(most, line[q * stride + j]);
                            row[q] = most;
                        }
                }
                done = last > done ? last : done;
                float *restrict out = y + (n * R + r) * Q;
                for (i64 q = 0; q < Q; q++) out[q] = -INFINITY;
                for (i64 i = first; i <= last; i++) {
                    const float *restrict row = rows + i % kernel * Q;
                    for (i64 q = 0; q < Q; q++) out[q] = larger(out[q], row[q]);
                }
            }
        }
        free(line);
    }
}

/* x [N][C][P] * scale[C] + shift[C]; in one rounding with `fused`, else in two. */
void spikeattn_affine(const float *x, float *y, i64 N, i64 C, i64 P, const float *scale, const float *shift, int fused,
                      int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++)
        for (i64 c = 0; c < C; c++) {
            const i64 first = (n * C + c) * P;
            affine_row(x + first, y + first, P, scale[c], shift[c], fused);
        }
}

#define TILE 32 /* positions and channels that are turned at a time: both sides of a tile stay in the first cache */

/* A tile of x [C][P] -> y [P][C]; `most` and `bad` as below. Full tiles have constant sides, and so vectors. */
static inline __attribute__((always_inline)) void turn(const float *restrict x, uint8_t *restrict y, i64 C, i64 P,
                                                       i64 height, i64 width, int32_t *most, int32_t *bad) {
    uint8_t rows[TILE][TILE], turned[TILE][TILE];
    int32_t largest = 0, wrong = 0;
    for (i64 i = 0; i < height; i++)
        for (i64 j = 0; j < width; j++) {
            const float v = x[i * P + j];
            const float inside = (v >= 0.0f) & (v <= 255.0f) ? v : 256.0f; /* NaN too */
            const int32_t whole = (int32_t)inside;
            wrong |= (whole > 255) | ((float)whole != inside);
            largest = whole > largest ? whole : largest;
            rows[i][j] = (uint8_t)whole;
        }
    for (i64 j = 0; j < width; j++)
        for (i64 i = 0; i < height; i++) turned[j][i] = rows[i][j];
    for (i64 j = 0; j < width; j++) memcpy(y + j * C, turned[j], (size_t)height);
    *most = largest > *most ? largest : *most;
    *bad |= wrong;
}

/* Whole numbers of spikes x [N][C][P] -> bytes y [N][P][C]. Returns the largest, -1 where one is not of 0 to 255. */
i64 spikeattn_to_bytes(const float *x, uint8_t *y, i64 N, i64 C, i64 P, int threads) {
    int32_t most = 0, bad = 0;
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads) reduction(max : most) reduction(| : bad)
    for (i64 n = 0; n < N; n++)
        for (i64 p = 0; p < P; p += TILE)
            for (i64 c = 0; c < C; c += TILE) {
                const i64 width = P - p < TILE ? P - p : TILE, height = C - c < TILE ? C - c : TILE;
                const float *in = x + (n * C + c) * P + p;
                uint8_t *out = y + (n * P + p) * C + c;
                if (width == TILE && height == TILE)
                    turn(in, out, C, P, TILE, TILE, &most, &bad);
                else
                    turn(in, out, C, P, height, width, &most, &bad);
            }
    return bad ? -1 : most;
}

/* x [N][P][C] -> y [N][C][P]. */
void spikeattn_to_planes(const float *x, float *y, i64 N, i64 P, i64 C, int threads) {
#pragma omp parallel for collapse(2) schedule(static) num_threads(threads)
    for (i64 n = 0; n < N; n++)
        for (i64 c = 0; c < C; c += TILE) {
            const i64 height = C - c < TILE ? C - c : TILE;
            for (i64 p = 0; p < P; p += TILE) {
                const i64 width = P - p < TILE ? P - p : TILE;
                float turned[TILE][TILE];
                for (i64 j = 0; j < width; j++) {
                    const float *in = x + (n * P + p + j) * C + c;
                    for (i64 i = 0; i < height; i++) turned[i][j] = in[i];
                }
                for (i64 i = 0; i < height; i++)
                    memcpy(y + (n * C + c + i) * P + p, turned[i], sizeof(float) * (size_t)width);
            }
        }
}
