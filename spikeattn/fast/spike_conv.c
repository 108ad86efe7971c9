/* Convolutions of spikes, with stride 1 and padding K / 2 (K odd): for every spike its row of weights is added, and
   nothing is multiplied.

   Every output is one chain of additions in a fixed order: bias, taps in raster order, channels ascending. Only which
   outputs are summed side by side depends on the firing rate, the processor and the shape, so spikes do not.

   Weights are [2 * ceil(O / 64)][K * K][superchunks][1 + channels][32], zero beyond O, and begin at a multiple of 64
   bytes. A superchunk is 2,048 channels (the last one what is left) behind a row of -0.0: x + (-0.0) is x to the bit,
   also for x = -0.0, so a list of spikes is made longer with it. Within a superchunk 16 bits tell the rows apart.

   A thread takes a tile of outputs with all their time steps and lists the spikes of its inputs once. Per tap and chunk
   of channels, inputs are sorted by how many spikes they have there and grouped by four, padded to the longest and
   interleaved: one word has a row of weights for each of the four. Then, for 64 outputs at a time, all groups add their
   rows: those of one chunk stay in the first cache while four tokens keep their sums in registers; between chunks the
   sums lie in a scratch of the second cache. Finally they are stored, or a neuron runs over them there and then.

   Compile with -ffp-contract=off and without -ffast-math. */

#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "spike_lists.h"

/* Outputs summed side by side: the sums of four tokens fill the registers, the weights of a chunk the first cache (32
   KiB); of a long chunk, half as many outputs. */
#define LONG_COLUMNS 32
#ifdef __AVX512F__
#define LANES 16
#define COLUMNS 64
#else
#define LANES 8
#define COLUMNS 32
#endif
#define SPARSE 0.06 /* firing rate of a tile below which lists are long ones, measured on two processors */
#define SPARSE_CHANNELS 256 /* at least: of fewer, a chunk of 128 is no short list */

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

/* Bytes that one thread needs for a convolution; they begin at a multiple of 64. */
i64 spikeattn_conv_room(i64 T, i64 B, i64 H, i64 W, i64 I, i64 O, i64 K) {
    const Shape s = shape_of(T, B, H, W, I, O, K);
    Room r;
    return (i64)lay_out(&r, &s, NULL);
}

/* Adds rows of weights for all groups of a chunk to `columns` outputs; `apart` floats lie between their blocks. */
static inline __attribute__((always_inline)) void add_rows(float *sums, const float *weights, i64 apart, const word *at,
                                                           const word *end, const int columns) {
    enum { MOST = WIDTH / LANES, VECS = BLOCK / LANES };
    const char *const rows_at[2] = {(const char *)weights, (const char *)(weights + apart)};
    while (at < end) {
        const word outputs = *at++;
        const i64 steps = (i64)*at++;
        float *own[TOGETHER];
        vec a[TOGETHER][MOST];
#pragma GCC unroll 4
        for (int m = 0; m < TOGETHER; m++) {
            own[m] = sums + ((outputs >> (16 * m)) & 0xffff) * WIDTH;
#pragma GCC unroll 8
            for (int l = 0; l < columns / LANES; l++) a[m][l] = ((const vec *)own[m])[l];
        }
        for (i64 k = 0; k < steps; k++) {
            const word rows = at[k];
#pragma GCC unroll 4
            for (int m = 0; m < TOGETHER; m++) {
                const word row = ((rows >> (16 * m)) & 0xffff) * 8;
#pragma GCC unroll 8
                for (int l = 0; l < columns / LANES; l++)
                    a[m][l] += ((const vec *)(rows_at[l / VECS] + row))[l % VECS];
            }
        }
#pragma GCC unroll 4
        for (int m = 0; m < TOGETHER; m++)
#pragma GCC unroll 8
            for (int l = 0; l < columns / LANES; l++) ((vec *)own[m])[l] = a[m][l];
        at += steps;
    }
}

/* What becomes of the sums: unless NULL, `shortcut` is added to them, they are stored as y, and a neuron makes spikes. */
typedef struct {
    float *y;
    const float *shortcut;
    uint8_t *spikes;
    float tau, threshold;
    int multiply;
    i64 area;           /* positions of an image */
    i64 images;         /* per time step */
    const i64 *weights; /* [area] fan-outs, or NULL */
    i64 *counts, *fans; /* [T][images] */
} Output;

/* Adds the shortcut to a tile's sums of 64 outputs, or stores them, or both. */
static void store(const Shape *s, const Room *r, const Output *o, i64 g, i64 b, i64 row, i64 column, i64 rows,
                  i64 columns) {
    const size_t width = (size_t)least(s->O - g * WIDTH, WIDTH);
    float *restrict sums = r->sums;
    for (i64 t = 0; t < s->T; t++)
        for (i64 i = row; i < row + rows; i++)
            for (i64 j = column; j < column + columns; j++, sums += WIDTH) {
                const i64 at = (((t * s->B + b) * s->H + i) * s->W + j) * s->O + g * WIDTH;
                const float *restrict shortcut = o->shortcut + (o->shortcut ? at : 0);
                if (shortcut)
                    for (size_t c = 0; c < width; c++) sums[c] = shortcut[c] + sums[c];
                if (o->y) memcpy(o->y + at, sums, sizeof(float) * width);
            }
}

/* Adds a tile's counts to those of the image. */
static void flush(const Shape *s, const Room *r, const Output *o, i64 image) {
    for (i64 t = 0; t < s->T; t++) {
#pragma omp atomic
        o->counts[t * o->images + image] += r->counts[t];
        if (o->weights) {
#pragma omp atomic
            o->fans[t * o->images + image] += r->counts[s->T + t];
        }
    }
    memset(r->counts, 0, sizeof(i64) * 2 * (size_t)s->T);
}

/* `spikeattn_charge` of 64 outputs, in vectors, to the bit; returns how many fired. */
static inline __attribute__((always_inline)) i64 charge_all(const float *sums, vec *v, uint8_t *out, float tau,
                                                            int multiply, float threshold) {
    bytes total = {0};
#pragma GCC unroll 8
    for (int l = 0; l < WIDTH / LANES; l++) {
        const vec d = ((const vec *)sums)[l] - v[l], h = v[l] + (multiply ? d * tau : d / tau);
        const ints fired = h >= threshold; /* -1 or 0 */
        const bytes ones = -__builtin_convertvector(fired, bytes);
        ((bytes *)out)[l] = ones;
        total += ones;
        v[l] = h * __builtin_convertvector(1 + fired, vec);
    }
    uint64_t words[LANES / 8], here = 0;
    memcpy(words, &total, LANES);
    for (int k = 0; k < LANES / 8; k++) here += words[k]; /* of eight counts of at most 8; all of them are at most 64 */
    return (i64)(here * 0x0101010101010101u >> 56);
}

/* Runs the neurons of 64 outputs over all time steps; returns how many potentials are NaN or infinite at the end. */
static i64 fire(const Shape *s, const Room *r, const Output *o, i64 g, i64 b, i64 row, i64 column, i64 rows,
                i64 columns) {
    const i64 width = least(s->O - g * WIDTH, WIDTH), positions = rows * columns;
    i64 image = -1, nonfinite = 0;
    memset(r->counts, 0, sizeof(i64) * 2 * (size_t)s->T);
    for (i64 p = 0; p < positions; p++) {
        const i64 position = (b * s->H + row + p / columns) * s->W + column + p % columns;
        if (image >= 0 && position / o->area != image) flush(s, r, o, image);
        image = position / o->area;
        vec v[WIDTH / LANES] = {{0}};
        for (i64 t = 0; t < s->T; t++) {
            const float *sums = r->sums + (t * positions + p) * WIDTH;
            uint8_t *out = o->spikes + (t * s->B * s->H * s->W + position) * s->O + g * WIDTH;
            i64 here = 0;
            if (width < WIDTH) {
                spikeattn_charge(sums, (float *)v, out, width, o->tau, o->multiply, o->threshold);
                for (i64 c = 0; c < width; c++) here += out[c];
            } else if (o->multiply)
                here = charge_all(sums, v, out, o->tau, 1, o->threshold);
            else
                here = charge_all(sums, v, out, o->tau, 0, o->threshold);
            r->counts[t] += here;
            if (o->weights) r->counts[s->T + t] += here * o->weights[position % o->area];
        }
        const float *left = (const float *)v;
        int32_t bad = 0;
        for (i64 c = 0; c < width; c++) bad += left[c] - left[c] != 0.0f;
        nonfinite += bad;
    }
    flush(s, r, o, image);
    return nonfinite;
}

static i64 convolve(const Shape *s, const uint8_t *x, const float *weights, const float *bias, const Output *o,
                    char *room, i64 each, int threads) {
    const i64 tiles = s->B * s->down * s->across, rows_of_tap = rows_of(s->I), apart = s->taps * rows_of_tap * BLOCK;
    /* Few tiles for many threads are split by outputs: four pieces of work per thread even out their ends. */
    const i64 split = least(s->groups, parts(4 * (i64)threads, tiles));
    i64 nonfinite = 0;
#pragma omp parallel num_threads(threads) reduction(+ : nonfinite)
    {
        int me = 0;
#ifdef _OPENMP
        me = omp_get_thread_num();
#endif
        Room own;
        const Room *r = &own;
        lay_out(&own, s, room + me * each);
#pragma omp for schedule(dynamic)
        for (i64 item = 0; item < tiles * split; item++) {
            const i64 tile = item / split, piece = item % split, b = tile / (s->down * s->across);
            const i64 row = tile / s->across % s->down * s->rows, column = tile % s->across * s->columns;
            const i64 rows = least(s->rows, s->H - row), columns = least(s->columns, s->W - column);
            i64 found = 0;
            const i64 inputs = read_tile(s, r, x, b, row, column, rows, columns, &found);
            const int sparse = s->I >= SPARSE_CHANNELS && (double)found < SPARSE * (double)(inputs * s->I);
            const i64 joined = sparse ? LONG_CHUNK / CHUNK : 1, chunks = parts(s->chunks, joined);
            word *words = r->words;
            /* A chunk is sorted once, for all taps; its groups are then read in the order of the additions. */
            for (i64 k = 0; k < chunks; k++) {
                const i64 from = k * joined, to = least(from + joined, s->chunks);
                const i64 sorted = sort_inputs(r, inputs, s->chunks + 1, from, to);
                for (i64 tap = 0; tap < s->taps; tap++) {
                    i64 *span = r->spans + 2 * (tap * chunks + k);
                    span[0] = words - r->words;
                    words = write_groups(s, r, words, sorted, tap, from, to, rows, columns);
                    span[1] = words - r->words;
                }
            }
            for (i64 g = s->groups * piece / split; g < s->groups * (piece + 1) / split; g++) {
                const i64 outputs = s->T * rows * columns;
                for (i64 q = 0; q < outputs; q++) memcpy(r->sums + q * WIDTH, bias + g * WIDTH, sizeof(float) * WIDTH);
                for (i64 tap = 0; tap < s->taps; tap++)
                    for (i64 k = 0; k < chunks; k++) {
                        const i64 super = k * joined * CHUNK / SUPER;
                        const float *w = weights + g * (WIDTH / BLOCK) * apart;
                        w += (tap * rows_of_tap + super * (SUPER + 1)) * BLOCK;
                        const i64 *span = r->spans + 2 * (tap * chunks + k);
                        const word *at = r->words + span[0], *end = r->words + span[1];
                        if (sparse)
                            for (int c = 0; c < WIDTH; c += LONG_COLUMNS)
                                add_rows(r->sums + c, w + c / BLOCK * apart, apart, at, end, LONG_COLUMNS);
                        else
                            for (int c = 0; c < WIDTH; c += COLUMNS)
                                add_rows(r->sums + c, w + c / BLOCK * apart, apart, at, end, COLUMNS);
                    }
                if (o->y || o->shortcut) store(s, r, o, g, b, row, column, rows, columns);
                if (o->spikes) nonfinite += fire(s, r, o, g, b, row, column, rows, columns);
            }
        }
    }
    return nonfinite;
}

/* Spikes [T][B][H][W][I] -> y [T][B][H][W][O] and, of a neuron that reads y, spikes of the same shape.

   shortcut: of the shape of y, is added to the sums; or NULL.
   y: NULL where only the spikes are wanted.
   spikes: NULL where only y is wanted; what follows it is as in `spikeattn_lif`.
   room: `each` bytes per thread, at least what `spikeattn_conv_room` says. */
i64 spikeattn_conv(const uint8_t *x, const float *weights, const float *bias, const float *shortcut, float *y, i64 T,
                   i64 B, i64 H, i64 W, i64 I, i64 O, i64 K, char *room, i64 each, uint8_t *spikes, float tau,
                   int multiply, float threshold, const i64 *fan_out, i64 *counts, i64 *fans, int threads) {
    const Shape s = shape_of(T, B, H, W, I, O, K);
    const Output o = {.y = y, .shortcut = shortcut, .spikes = spikes, .tau = tau, .threshold = threshold,
                      .multiply = multiply, .area = H * W, .images = B, .weights = fan_out, .counts = counts,
                      .fans = fans};
    return convolve(&s, x, weights, bias, &o, room, each, threads);
}
