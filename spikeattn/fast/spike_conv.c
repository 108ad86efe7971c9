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
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VBMI2__)
#define COMPRESS 1
#include <immintrin.h>
#endif

#include "charge.h"

#define WIDTH 64   /* outputs whose sums lie side by side in the scratch */
#define BLOCK 32   /* outputs of a row of weights: two lines of the cache */
#define UNITS 16   /* of 8 bytes, which addressing multiplies by: one row of weights */
#define SUPER 2048 /* channels per superchunk: (1 + 2047) * UNITS fits in 16 bits */
#define TOGETHER 4 /* tokens per group: 16 bits each fill a word */
#define TOKENS 196 /* per tile, all time steps together: their sums of 64 outputs are 50 KiB of the second cache */
#define WIDE 1024  /* channels, in or out, beyond which twice the tokens pay for twice the weights */

/* Channels per chunk and outputs summed side by side: 4 tokens' sums fill registers, a chunk's weights the first cache
   (32 KiB). Where there are few spikes, longer lists keep the sums in registers for longer. */
#ifndef CHUNK
#define CHUNK 128
#endif
#ifndef LONG_CHUNK
#define LONG_CHUNK 512
#endif
#define LONG_COLUMNS 32
#ifdef __AVX512F__
#define LANES 16
#ifndef COLUMNS
#define COLUMNS 64
#endif
#else
#define LANES 8
#ifndef COLUMNS
#define COLUMNS 32
#endif
#endif
#ifndef SPARSE
#define SPARSE 0.06 /* firing rate of a tile below which lists are long ones: measured on two processors */
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint64_t word;

typedef struct {
    i64 T, B, H, W, I, O, K;
    i64 rows, columns;          /* of outputs in a tile */
    i64 down, across;           /* tiles of an image */
    i64 taps, chunks, groups;   /* `chunks` of CHUNK channels; `groups` of 64 outputs */
    i64 inputs, outputs, words; /* at most, of a tile */
} Shape;

/* Where a thread works. */
typedef struct {
    float *sums;      /* [outputs + 1][WIDTH]; the last row belongs to no output */
    word *words;      /* groups of all taps and chunks, see `write_groups` */
    i64 *spans;       /* [taps * chunks][2] where they begin and end */
    uint32_t *starts; /* [inputs][chunks + 1] where the spikes of a chunk begin in an input's list */
    uint16_t *lists;  /* [inputs][I + 32] rows of weights in units of 8 bytes */
    int32_t *order;   /* [inputs] */
    int32_t *chosen;  /* [inputs] */
    int32_t *place;   /* [inputs][3] row and column that tap (0, 0) adds to, and that output's number */
    i64 *counts;      /* [2][T] */
} Room;

static i64 least(i64 a, i64 b) { return a < b ? a : b; }
static i64 parts(i64 whole, i64 part) { return (whole + part - 1) / part; }
static i64 rows_of(i64 I) { return I + parts(I, SUPER); }

static Shape shape_of(i64 T, i64 B, i64 H, i64 W, i64 I, i64 O, i64 K) {
    Shape s = {.T = T, .B = B, .H = H, .W = W, .I = I, .O = O, .K = K};
    if (K == 1) s.W = B * H * W, s.B = s.H = 1; /* positions have nothing to do with each other: one row of them */
    H = s.H, W = s.W;
    i64 positions = (I > WIDE || O > WIDE ? 2 * TOKENS : TOKENS) / T;
    if (positions < 1) positions = 1;
    s.across = parts(W, least(positions, W));
    s.columns = parts(W, s.across); /* all tiles of a row about as wide */
    s.across = parts(W, s.columns);
    const i64 rows = positions / s.columns < 1 ? 1 : positions / s.columns;
    s.rows = parts(H, parts(H, least(rows, H)));
    s.down = parts(H, s.rows);
    s.taps = K * K, s.chunks = parts(I, CHUNK), s.groups = parts(O, WIDTH);
    s.inputs = T * least(H, s.rows + K - 1) * least(W, s.columns + K - 1);
    s.outputs = T * s.rows * s.columns;
    s.words = s.taps * parts(s.outputs, TOGETHER) * (I + 2 * s.chunks) + 8; /* interleaving writes 8 at a time */
    return s;
}

static size_t take(char **at, size_t size) {
    const size_t whole = (size + 127) / 64 * 64;
    if (*at) *at += whole;
    return whole;
}

/* Lays the room out from `at`, which may be NULL, and returns its bytes. */
static size_t lay_out(Room *r, const Shape *s, char *at) {
    size_t size = 0;
#define PLACE(name, count) r->name = (void *)at, size += take(&at, sizeof(*r->name) * (size_t)(count))
    PLACE(sums, (s->outputs + 1) * WIDTH);
    PLACE(words, s->words);
    PLACE(spans, 2 * s->taps * s->chunks);
    PLACE(starts, s->inputs * (s->chunks + 1));
    PLACE(lists, s->inputs * (s->I + 32) + 32);
    PLACE(order, s->inputs);
    PLACE(chosen, s->inputs);
    PLACE(place, s->inputs * 3);
    PLACE(counts, 2 * s->T);
#undef PLACE
    return size;
}

/* Bytes that one thread needs for a convolution; they begin at a multiple of 64. */
i64 spikeattn_conv_room(i64 T, i64 B, i64 H, i64 W, i64 I, i64 O, i64 K) {
    const Shape s = shape_of(T, B, H, W, I, O, K);
    Room r;
    return (i64)lay_out(&r, &s, NULL);
}

/* The rows of weights of an input's spikes, ascending, and where each chunk begins; returns how many. */
static i64 list_spikes(const uint8_t *in, i64 I, uint16_t *list, uint32_t *starts) {
    i64 found = 0;
    for (i64 first = 0; first < I; first += CHUNK) {
        const i64 last = least(first + CHUNK, I);
        *starts++ = (uint32_t)found;
        i64 c = first;
#ifdef COMPRESS
        const __m512i lanes = _mm512_set_epi16(31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14,
                                               13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        for (; c < last; c += 32) {
            const __mmask32 inside = last - c >= 32 ? 0xffffffffu : (1u << (last - c)) - 1;
            const __m256i bytes = _mm256_maskz_loadu_epi8(inside, in + c);
            const __mmask32 fired = _mm256_test_epi8_mask(bytes, bytes);
            const __m512i rows = _mm512_add_epi16(lanes, _mm512_set1_epi16((short)(1 + c % SUPER)));
            /* in a register and then to memory: the instruction that does both is slow on some processors */
            _mm512_storeu_si512(list + found, _mm512_maskz_compress_epi16(fired, _mm512_slli_epi16(rows, 4)));
            found += __builtin_popcount(fired);
        }
#else
        for (; c + 8 <= last; c += 8) {
            uint64_t bytes;
            memcpy(&bytes, in + c, 8);
            if (!bytes) continue;
            for (int l = 0; l < 8; l++) {
                list[found] = (uint16_t)((1 + (c + l) % SUPER) * UNITS);
                found += in[c + l];
            }
        }
        for (; c < last; c++) {
            list[found] = (uint16_t)((1 + c % SUPER) * UNITS);
            found += in[c];
        }
#endif
    }
    *starts = (uint32_t)found;
    return found;
}

/* Lists the spikes of a tile's inputs; returns how many inputs there are, and adds to `found` how many spikes. */
static i64 read_tile(const Shape *s, const Room *r, const uint8_t *x, i64 b, i64 row, i64 column, i64 rows,
                     i64 columns, i64 *found) {
    const i64 half = s->K / 2, top = row > half ? row - half : 0, left = column > half ? column - half : 0;
    const i64 bottom = least(row + rows + half, s->H), right = least(column + columns + half, s->W);
    i64 n = 0;
    for (i64 t = 0; t < s->T; t++)
        for (i64 i = top; i < bottom; i++)
            for (i64 j = left; j < right; j++, n++) {
                const uint8_t *in = x + (((t * s->B + b) * s->H + i) * s->W + j) * s->I;
                *found += list_spikes(in, s->I, r->lists + n * (s->I + 32), r->starts + n * (s->chunks + 1));
                const i64 down = i - row + half, across = j - column + half;
                r->place[3 * n] = (int32_t)down, r->place[3 * n + 1] = (int32_t)across;
                r->place[3 * n + 2] = (int32_t)((t * rows + down) * columns + across);
            }
    return n;
}

/* Inputs with spikes in the chunk, by how many they have there: `order`; returns how many inputs.

   Groups of like lengths waste little padding, and the processor predicts where their loops end. */
static i64 sort_inputs(const Room *r, i64 inputs, i64 stride, i64 from, i64 to) {
    int32_t after[LONG_CHUNK + 2] = {0};
    for (i64 q = 0; q < inputs; q++) after[r->starts[q * stride + to] - r->starts[q * stride + from] + 1]++;
    const int32_t silent = after[1];
    after[1] = 0;
    for (int l = 2; l < LONG_CHUNK + 2; l++) after[l] += after[l - 1];
    int32_t none = (int32_t)inputs - silent; /* the silent ones go behind the others */
    for (i64 q = 0; q < inputs; q++) {
        const uint32_t length = r->starts[q * stride + to] - r->starts[q * stride + from];
        int32_t *next = length ? &after[length] : &none;
        r->order[(*next)++] = (int32_t)q;
    }
    return inputs - silent;
}

/* Four lists as words, `steps` of them, zeros behind the end of each: row 0 is that of -0.0. */
static void interleave(word *words, const uint16_t *const lists[TOGETHER], const i64 lengths[TOGETHER], i64 steps) {
#ifdef COMPRESS
    for (i64 k = 0; k < steps; k += 8) {
        __m128i each[TOGETHER];
        for (int m = 0; m < TOGETHER; m++) {
            const i64 left = lengths[m] - k;
            const __mmask8 inside = left >= 8 ? 0xff : left > 0 ? (__mmask8)((1u << left) - 1) : 0;
            each[m] = _mm_maskz_loadu_epi16(inside, lists[m] + k);
        }
        const __m128i a = _mm_unpacklo_epi16(each[0], each[1]), b = _mm_unpacklo_epi16(each[2], each[3]);
        const __m128i c = _mm_unpackhi_epi16(each[0], each[1]), d = _mm_unpackhi_epi16(each[2], each[3]);
        _mm_storeu_si128((void *)(words + k), _mm_unpacklo_epi32(a, b));
        _mm_storeu_si128((void *)(words + k + 2), _mm_unpackhi_epi32(a, b));
        _mm_storeu_si128((void *)(words + k + 4), _mm_unpacklo_epi32(c, d));
        _mm_storeu_si128((void *)(words + k + 6), _mm_unpackhi_epi32(c, d));
    }
#else
    const uint16_t *a = lists[0], *b = lists[1], *c = lists[2], *d = lists[3];
    i64 all = steps;
    for (int m = 0; m < TOGETHER; m++) all = least(all, lengths[m]);
    for (i64 k = 0; k < all; k++) words[k] = a[k] | (word)b[k] << 16 | (word)c[k] << 32 | (word)d[k] << 48;
    for (i64 k = all; k < steps; k++) {
        word next = 0;
        for (int m = 0; m < TOGETHER; m++) next |= (word)(k < lengths[m] ? lists[m][k] : 0) << (16 * m);
        words[k] = next;
    }
#endif
}

/* The groups of one tap and chunk: per group a word of four outputs, one of the number of steps, and the steps. */
static word *write_groups(const Shape *s, const Room *r, word *words, i64 sorted, i64 tap, i64 from, i64 to, i64 rows,
                          i64 columns) {
    const int32_t i = (int32_t)(tap / s->K), j = (int32_t)(tap % s->K), shift = (int32_t)(i * columns) + j;
    const i64 stride = s->chunks + 1, none = s->outputs;
    i64 n = 0;
    for (i64 e = 0; e < sorted; e++) {
        const int32_t q = r->order[e], *place = r->place + 3 * q;
        r->chosen[n] = q; /* inputs at the rim have no output under some taps */
        n += (uint32_t)(place[0] - i) < (uint32_t)rows && (uint32_t)(place[1] - j) < (uint32_t)columns;
    }
    for (i64 e = 0; e < n; e += TOGETHER) {
        const uint16_t *lists[TOGETHER];
        i64 lengths[TOGETHER], steps = 0;
        word outputs = 0;
        for (int m = 0; m < TOGETHER; m++) {
            const i64 q = r->chosen[e + m < n ? e + m : n - 1];
            const uint32_t *starts = r->starts + q * stride;
            lists[m] = r->lists + q * (s->I + 32) + starts[from];
            lengths[m] = e + m < n ? starts[to] - starts[from] : 0;
            steps = lengths[m] > steps ? lengths[m] : steps;
            outputs |= (word)(e + m < n ? r->place[3 * q + 2] - shift : none) << (16 * m);
        }
        *words++ = outputs;
        *words++ = (word)steps;
        interleave(words, lists, lengths, steps);
        words += steps;
    }
    return words;
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
            const int sparse = s->I >= 256 && (double)found < SPARSE * (double)(inputs * s->I);
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
