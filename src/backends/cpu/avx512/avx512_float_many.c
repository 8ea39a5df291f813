// Many rows of x with weights of F32, F16 and BF16: 4 weight rows at a time meet up to 6 rows of x,
// with all 24 sums in registers. Nothing is unpacked or packed: 16 elements lie in the lanes, as in
// memory, and rows of x come from the second cache or the third as quickly as they are multiplied.
#include "backends/cpu/avx512/avx512_load.h"
#include "backends/cpu/avx512/avx512_products.h"

#define WIDTH 4      // weight rows side by side
#define BLOCK_ROWS 6 // rows of x side by side, at most

// What belongs to weight rows, or stands in for those that are not there, and rows of x.
typedef struct operands {
    const char* w[WIDTH];
    const float* const* x;
    int64_t ahead; // bytes from these weights to those that are asked for
} operands;

AVX512_INLINE void add_part(load_fn load, const operands* from, int count, int64_t e,
                            __mmask16 mask, __m512 sums[BLOCK_ROWS][WIDTH]) {
    __m512 weights[WIDTH];
#pragma GCC unroll 4
    for (int k = 0; k < WIDTH; k++) {
        weights[k] = load(from->w[k], e, mask);
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
        const __m512 x = _mm512_maskz_loadu_ps(mask, from->x[i] + e);
#pragma GCC unroll 4
        for (int k = 0; k < WIDTH; k++) {
            sums[i][k] = _mm512_fmadd_ps(weights[k], x, sums[i][k]);
        }
    }
}

// Sums run through the elements in order, 16 lanes of them, whatever rows lie beside.
AVX512_INLINE void dot_block(load_fn load, int64_t size, const operands* from, int64_t elements,
                             int count, bool fetch, int64_t width, float* results, int64_t stride) {
    __m512 sums[BLOCK_ROWS][WIDTH];
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
#pragma GCC unroll 4
        for (int k = 0; k < WIDTH; k++) {
            sums[i][k] = _mm512_setzero_ps();
        }
    }
    int64_t e = 0;
    for (; e + 32 <= elements; e += 32) {
        for (int k = 0; fetch && k < WIDTH; k++) {
            for (int64_t at = 0; at < 32 * size; at += 64) {
                _mm_prefetch(
                    (const char*)((uintptr_t)from->w[k] + (uintptr_t)(e * size + at + from->ahead)),
                    _MM_HINT_T1);
            }
        }
        add_part(load, from, count, e, 0xFFFF, sums);
        add_part(load, from, count, e + 16, 0xFFFF, sums);
    }
    for (; e < elements; e += 16) {
        add_part(load, from, count, e, avx512_mask(elements - e), sums);
    }
#pragma GCC unroll 6
    for (int i = 0; i < count; i++) {
        _mm_mask_storeu_ps(results + i * stride, (__mmask8)((1 << width) - 1),
                           avx512_sum_lanes(sums[i]));
    }
}

// A constant number of rows keeps all sums in registers.
AVX512_INLINE void dot_rows(load_fn load, int64_t size, const operands* from, int64_t elements,
                            int64_t count, bool fetch, int64_t width, float* results,
                            int64_t stride) {
    switch (count) {
    case 1:
        dot_block(load, size, from, elements, 1, fetch, width, results, stride);
        break;
    case 2:
        dot_block(load, size, from, elements, 2, fetch, width, results, stride);
        break;
    case 3:
        dot_block(load, size, from, elements, 3, fetch, width, results, stride);
        break;
    case 4:
        dot_block(load, size, from, elements, 4, fetch, width, results, stride);
        break;
    case 5:
        dot_block(load, size, from, elements, 5, fetch, width, results, stride);
        break;
    default:
        dot_block(load, size, from, elements, 6, fetch, width, results, stride);
    }
}

// Rows of x are spread evenly over the blocks. Those after the first find the weights in the cache.
AVX512_INLINE void dot_many(load_fn load, int64_t size, const cpu_weight_rows* weights,
                            int64_t elements, const float* const* x, int64_t count, float* results,
                            int64_t stride) {
    for (int64_t n = 0; n < weights->count; n += WIDTH) {
        const int64_t left = weights->count - n;
        const int64_t width = left < WIDTH ? left : WIDTH;
        const char* first = (const char*)weights->first + n * weights->byte_stride;
        operands from = {.x = x, .ahead = WIDTH * weights->byte_stride};
        if (left <= WIDTH && weights->next) {
            from.ahead = (int64_t)((uintptr_t)weights->next - (uintptr_t)first);
        }
        for (int64_t k = 0; k < WIDTH; k++) {
            from.w[k] = first + (k < width ? k : width - 1) * weights->byte_stride;
        }
        int64_t blocks = (count + BLOCK_ROWS - 1) / BLOCK_ROWS;
        for (int64_t i = 0; i < count; blocks--) {
            const int64_t rows = (count - i + blocks - 1) / blocks;
            from.x = x + i;
            dot_rows(load, size, &from, elements, rows, i == 0, width, results + i * stride + n,
                     stride);
            i += rows;
        }
    }
}

#define TYPE_FUNCTION(name, size)                                                                  \
    void avx512_dot_many_##name(const cpu_weight_rows* weights, int64_t elements,                  \
                                const float* const* x, int64_t count, float* sums,                 \
                                int64_t stride) {                                                  \
        dot_many(load_##name, size, weights, elements, x, count, sums, stride);                    \
    }
TYPE_FUNCTION(f32, 4)
TYPE_FUNCTION(f16, 2)
TYPE_FUNCTION(bf16, 2)
