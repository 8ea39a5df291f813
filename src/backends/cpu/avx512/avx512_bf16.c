// Many rows of x, rounded to BF16, with weights of BF16: twice as many products in an instruction
// as in f32 (VDPBF16PS of AVX512_BF16). Sums stay in f32.
#include <string.h>

#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_vector.h"

#define WIDTH 4      // weight rows side by side
#define BLOCK_ROWS 6 // rows of x side by side, at most
#define PART 4096    // elements of x that are rounded at a time

// Rows of x, filled up with zeros to whole registers. The gap keeps lines of rows in sets of their
// own.
typedef struct rounded_rows {
    _Alignas(64) uint16_t x[BLOCK_ROWS][PART + 32];
    int64_t length;
} rounded_rows;

static void round_rows(const float* const* x, int64_t count, int64_t begin, rounded_rows* rounded) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t e = 0; e < rounded->length; e += 32) {
            const float* from = x[i] + begin + e;
            const int64_t left = rounded->length - e;
            const __m512 first = _mm512_maskz_loadu_ps(avx512_mask(left), from);
            const __m512 last = _mm512_maskz_loadu_ps(avx512_mask(left - 16), from + 16);
            _mm512_store_si512(rounded->x[i] + e, (__m512i)_mm512_cvtne2ps_pbh(last, first));
        }
    }
}

// The same part of some weight rows, or what stands in for those that are not there.
typedef struct part_of_weights {
    const char* row[WIDTH];
    int64_t count;
    int64_t ahead; // bytes from these to those that are asked for; 0: they are in the cache
} part_of_weights;

AVX512_INLINE void add_step(const part_of_weights* w, const rounded_rows* x, int count, int64_t e,
                            __mmask32 mask, __m512 sums[BLOCK_ROWS][WIDTH]) {
    __m512i weights[WIDTH];
#pragma GCC unroll 4
    for (int k = 0; k < WIDTH; k++) {
        weights[k] = _mm512_maskz_loadu_epi16(mask, w->row[k] + 2 * e);
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
        const __m512i row = _mm512_load_si512(x->x[i] + e);
#pragma GCC unroll 4
        for (int k = 0; k < WIDTH; k++) {
            sums[i][k] = _mm512_dpbf16_ps(sums[i][k], (__m512bh)weights[k], (__m512bh)row);
        }
    }
}

// Adds what a part comes to, unless it is the first, to results[i * stride + k].
AVX512_INLINE void dot_block(const part_of_weights* w, const rounded_rows* x, int count, bool first,
                             float* results, int64_t stride) {
    __m512 sums[BLOCK_ROWS][WIDTH];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < WIDTH; k++) {
            sums[i][k] = _mm512_setzero_ps();
        }
    }
    int64_t e = 0;
    for (; e + 32 <= x->length; e += 32) {
        for (int k = 0; w->ahead != 0 && k < WIDTH; k++) {
            _mm_prefetch((const char*)((uintptr_t)w->row[k] + (uintptr_t)(2 * e + w->ahead)),
                         _MM_HINT_T1);
        }
        add_step(w, x, count, e, 0xFFFFFFFF, sums);
    }
    if (e < x->length) {
        add_step(w, x, count, e, (1u << (x->length - e)) - 1, sums);
    }
    const __mmask8 columns = (__mmask8)((1 << w->count) - 1);
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
        float* at = results + i * stride;
        const __m128 found = avx512_sum_lanes(sums[i]);
        const __m128 before = _mm_maskz_loadu_ps(first ? 0 : columns, at);
        _mm_mask_storeu_ps(at, columns, _mm_add_ps(found, before));
    }
}

// A constant number of rows keeps all sums in registers.
static void dot_rows(const part_of_weights* w, const rounded_rows* x, int64_t count, bool first,
                     float* results, int64_t stride) {
    switch (count) {
    case 1:
        dot_block(w, x, 1, first, results, stride);
        break;
    case 2:
        dot_block(w, x, 2, first, results, stride);
        break;
    case 3:
        dot_block(w, x, 3, first, results, stride);
        break;
    case 4:
        dot_block(w, x, 4, first, results, stride);
        break;
    case 5:
        dot_block(w, x, 5, first, results, stride);
        break;
    default:
        dot_block(w, x, 6, first, results, stride);
    }
}

// All weight rows meet a part of some rows of x. The first rows of x bring the weights into the
// cache, where the others find them.
static void dot_part(const cpu_weight_rows* weights, const rounded_rows* x, int64_t count,
                     int64_t begin, bool fetch, float* results, int64_t stride) {
    for (int64_t n = 0; n < weights->count; n += WIDTH) {
        const int64_t left = weights->count - n;
        const char* first = (const char*)weights->first + n * weights->byte_stride;
        part_of_weights w = {.count = left < WIDTH ? left : WIDTH};
        if (fetch) {
            w.ahead = left <= WIDTH && weights->next
                          ? (int64_t)((uintptr_t)weights->next - (uintptr_t)first)
                          : WIDTH * weights->byte_stride;
        }
        for (int64_t k = 0; k < WIDTH; k++) {
            w.row[k] = first + (k < w.count ? k : w.count - 1) * weights->byte_stride + 2 * begin;
        }
        dot_rows(&w, x, count, begin == 0, results + n, stride);
    }
}

void avx512_dot_many_rounded(const cpu_weight_rows* weights, int64_t elements,
                             const float* const* x, int64_t count, float* sums, int64_t stride) {
    rounded_rows rounded;
    int64_t blocks = (count + BLOCK_ROWS - 1) / BLOCK_ROWS;
    for (int64_t i = 0; i < count; blocks--) {
        const int64_t rows = (count - i + blocks - 1) / blocks;
        for (int64_t begin = 0; begin < elements; begin += PART) {
            rounded.length = elements - begin < PART ? elements - begin : PART;
            round_rows(x + i, rows, begin, &rounded);
            dot_part(weights, &rounded, rows, begin, i == 0, sums + i * stride, stride);
        }
        i += rows;
    }
}
