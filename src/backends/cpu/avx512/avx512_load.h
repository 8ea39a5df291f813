// Weights of F32, F16 and BF16 as f32 in registers.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_LOAD_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_LOAD_H

#include "backends/cpu/avx512/avx512_vector.h"

typedef __m512 (*widen_fn)(__m256i halves);

// Loads up to 16 weights of a row as f32; what the mask leaves out is zero and not touched.
typedef __m512 (*load_fn)(const char* row, int64_t index, __mmask16 mask);

AVX512_INLINE __m512 load_f32(const char* row, int64_t index, __mmask16 mask) {
    return _mm512_maskz_loadu_ps(mask, row + 4 * index);
}

AVX512_INLINE __m512 widen_f16(__m256i halves) {
    return _mm512_cvtph_ps(halves);
}

AVX512_INLINE __m512 widen_bf16(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

AVX512_INLINE __m512 load_f16(const char* row, int64_t index, __mmask16 mask) {
    return widen_f16(_mm256_maskz_loadu_epi16(mask, row + 2 * index));
}

AVX512_INLINE __m512 load_bf16(const char* row, int64_t index, __mmask16 mask) {
    return widen_bf16(_mm256_maskz_loadu_epi16(mask, row + 2 * index));
}

#endif
