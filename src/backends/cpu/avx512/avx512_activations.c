#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_vector.h"

// The largest magnitude of 32 elements.
static float largest_of(__m512 low, __m512 high) {
    return _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
}

void avx512_quantize(const float* x, int64_t count, cpu_chunk* chunk) {
    for (int g = 0; g < CPU_CHUNK / 32; g++) {
        const int64_t left = count - 32 * g;
        const __m512 low = _mm512_maskz_loadu_ps(avx512_mask(left), x + 32 * g);
        const __m512 high = _mm512_maskz_loadu_ps(avx512_mask(left - 16), x + 32 * g + 16);
        const float largest = largest_of(low, high);
        const float d = largest / 127.0f;
        const __m512 inverse = _mm512_set1_ps(largest > 0.0f ? 127.0f / largest : 0.0f);
        const __m128i q_low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)));
        const __m128i q_high =
            _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(high, inverse)));
        _mm_store_si128((__m128i*)(void*)(chunk->q + 32 * g), q_low);
        _mm_store_si128((__m128i*)(void*)(chunk->q + 32 * g + 16), q_high);
        chunk->d[2 * g] = chunk->d[2 * g + 1] = d;
    }
    // Four zmm of lane sums, each lane over four neighbours; four lanes are a group of 16.
    const __m512i ones = _mm512_set1_epi8(1);
    for (int j = 0; j < 4; j++) {
        const __m512i q = _mm512_load_si512(chunk->q + 64 * j);
        const __m512i lanes = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, q);
        const __m512i pairs = _mm512_add_epi32(lanes, _mm512_shuffle_epi32(lanes, 0xB1));
        const __m512i sums = _mm512_add_epi32(pairs, _mm512_shuffle_epi32(pairs, 0x4E));
        const __m512i four = _mm512_permutexvar_epi32(
            _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), sums);
        _mm_store_si128((__m128i*)(void*)(chunk->sum + 4 * j), _mm512_castsi512_si128(four));
    }
    const __m512i sums = _mm512_load_si512(chunk->sum);
    const __m512 d = _mm512_load_ps(chunk->d);
    _mm512_store_ps(chunk->d_sum, _mm512_mul_ps(d, _mm512_cvtepi32_ps(sums)));
}
