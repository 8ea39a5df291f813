// Rows of a cache of keys or values, 16 elements at a time as f32.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_CACHE_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_CACHE_H

#include <weir/dtype.h>

#include "backends/cpu/avx512/avx512_vector.h"

// Loads elements [column, column + 16) of a row; column is a multiple of 16.
typedef __m512 (*avx512_load_fn)(const char* row, int64_t column);

AVX512_INLINE __m512 avx512_load_f32(const char* row, int64_t column) {
    return _mm512_loadu_ps(row + 4 * column);
}

AVX512_INLINE __m512 avx512_load_f16(const char* row, int64_t column) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(const void*)(row + 2 * column)));
}

AVX512_INLINE __m512 avx512_load_bf16(const char* row, int64_t column) {
    const __m256i halves = _mm256_loadu_si256((const __m256i*)(const void*)(row + 2 * column));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

AVX512_INLINE __m512 avx512_load_q8_0(const char* row, int64_t column) {
    const char* block = row + column / 32 * 34;
    int16_t d;
    __builtin_memcpy(&d, block, sizeof d);
    const __m128i q = _mm_loadu_si128((const __m128i*)(const void*)(block + 2 + column % 32));
    return _mm512_mul_ps(_mm512_cvtph_ps(_mm256_set1_epi16(d)),
                         _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)));
}

// Expands `function(load, ...)` for the type of a cache, so that `load` is known to the compiler.
#define AVX512_FOR_CACHE(dtype, function, ...)                                                     \
    do {                                                                                           \
        switch (dtype) {                                                                           \
        case WEIR_DTYPE_F32:                                                                       \
            function(avx512_load_f32, __VA_ARGS__);                                                \
            break;                                                                                 \
        case WEIR_DTYPE_F16:                                                                       \
            function(avx512_load_f16, __VA_ARGS__);                                                \
            break;                                                                                 \
        case WEIR_DTYPE_BF16:                                                                      \
            function(avx512_load_bf16, __VA_ARGS__);                                               \
            break;                                                                                 \
        default:                                                                                   \
            function(avx512_load_q8_0, __VA_ARGS__);                                               \
        }                                                                                          \
    } while (false)

#endif
