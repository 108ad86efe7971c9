/* Tiles of a convolution of spikes (spike_conv.c), and the lists of rows of weights that their spikes add. */

#ifndef SPIKEATTN_SPIKE_LISTS_H
#define SPIKEATTN_SPIKE_LISTS_H

#include <string.h>
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

/* Channels per chunk; where there are few spikes, longer lists keep sums in registers for longer. */
#define CHUNK 128
#define LONG_CHUNK 512

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

#endif
