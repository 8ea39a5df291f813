// Rows of x as bytes. Those of a group of 32 are spread over four registers as the bytes of weights
// are (see avx512_unpack.h).
#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_vector.h"

#define GROUPS (CPU_CHUNK / 32)

// Of magnitudes. As integers they have the same order, and NaN is above all of them: the maximum of
// floats would lose it.
AVX512_INLINE __m512 larger(__m512 a, __m512 b) {
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

// The largest of the sixteen lanes of each of eight registers: lanes 0 .. 3 of the result are those
// of the first four, lanes 8 .. 11 those of the others.
AVX512_INLINE __m512 largest_lanes(const __m512 m[GROUPS]) {
    __m512 pairs[4];
    for (int i = 0; i < 4; i++) {
        pairs[i] = larger(_mm512_unpacklo_ps(m[2 * i], m[2 * i + 1]),
                          _mm512_unpackhi_ps(m[2 * i], m[2 * i + 1]));
    }
    __m512 fours[2];
    for (int i = 0; i < 2; i++) {
        const __m512d first = _mm512_castps_pd(pairs[2 * i]);
        const __m512d last = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] = larger(_mm512_castpd_ps(_mm512_unpacklo_pd(first, last)),
                          _mm512_castpd_ps(_mm512_unpackhi_pd(first, last)));
    }
    const __m512 halves = larger(_mm512_shuffle_f32x4(fours[0], fours[1], 0x88),
                                 _mm512_shuffle_f32x4(fours[0], fours[1], 0xDD));
    return larger(halves, _mm512_shuffle_f32x4(halves, halves, 0xB1));
}

// A group as halves, four of the first part and four of the second in each 128 bits.
AVX512_INLINE __m512i pack_group(__m512 first, __m512 second, __m512 inverse) {
    return _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(first, inverse)),
                              _mm512_cvtps_epi32(_mm512_mul_ps(second, inverse)));
}

// From the bytes of pairs of groups, word 4 l + t of which holds elements 4 l .. 4 l + 3 of part t
// of the pair, to those of all eight groups.
AVX512_INLINE void spread_groups(const __m512i pairs[4], __m512i q[4]) {
    // Words of groups 0 .. 3 for q[0] and q[1], then for q[2] and q[3].
    const __m512i low =
        _mm512_setr_epi32(0, 4, 2, 6, 16, 20, 18, 22, 8, 12, 10, 14, 24, 28, 26, 30);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(1));
    const __m512i low_first = _mm512_permutex2var_epi32(pairs[0], low, pairs[1]);
    const __m512i low_last = _mm512_permutex2var_epi32(pairs[2], low, pairs[3]);
    const __m512i high_first = _mm512_permutex2var_epi32(pairs[0], high, pairs[1]);
    const __m512i high_last = _mm512_permutex2var_epi32(pairs[2], high, pairs[3]);
    q[0] = _mm512_shuffle_i64x2(low_first, low_last, 0x44);
    q[1] = _mm512_shuffle_i64x2(low_first, low_last, 0xEE);
    q[2] = _mm512_shuffle_i64x2(high_first, high_last, 0x44);
    q[3] = _mm512_shuffle_i64x2(high_first, high_last, 0xEE);
}

// Sums of sixteen neighbours, of which two registers hold eight each.
AVX512_INLINE __m512i sum_sixteens(const __m512i q[4]) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums[2];
    for (int i = 0; i < 2; i++) {
        const __m512i first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, q[2 * i]);
        const __m512i lanes = _mm512_dpbusd_epi32(first, ones, q[2 * i + 1]);
        sums[i] = _mm512_add_epi32(lanes, _mm512_shuffle_epi32(lanes, 0xB1));
    }
    return _mm512_mask_mov_epi32(sums[0], 0xAAAA, sums[1]);
}

// Sixteen elements; zeros behind the end.
AVX512_INLINE __m512 load_part(const float* x, int64_t count, int part) {
    return _mm512_maskz_loadu_ps(avx512_mask(count - 16 * part), x + 16 * part);
}

AVX512_INLINE void quantize(const float* x, int64_t count, cpu_chunk* chunk) {
    __m512 largest[GROUPS];
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; g++) {
        largest[g] = larger(_mm512_abs_ps(load_part(x, count, 2 * g)),
                            _mm512_abs_ps(load_part(x, count, 2 * g + 1)));
    }
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11);
    const __m512 most = _mm512_permutexvar_ps(twice, largest_lanes(largest));
    const __m512 levels = _mm512_set1_ps(127.0f);
    const __mmask16 positive = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 inverse = _mm512_maskz_div_ps(positive, levels, most);
    const __m512 d = _mm512_div_ps(most, levels);
    __m512i pairs[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 first = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * i), inverse);
        const __m512 last = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * i + 2), inverse);
        pairs[i] = _mm512_packs_epi16(
            pack_group(load_part(x, count, 4 * i), load_part(x, count, 4 * i + 1), first),
            pack_group(load_part(x, count, 4 * i + 2), load_part(x, count, 4 * i + 3), last));
    }
    __m512i q[4];
    spread_groups(pairs, q);
    for (int j = 0; j < 4; j++) {
        _mm512_store_si512(chunk->q + 64 * j, q[j]);
    }
    const __m512i sums = sum_sixteens(q);
    _mm512_store_si512(chunk->sum, sums);
    _mm512_store_ps(chunk->d, d);
    _mm512_store_ps(chunk->d_sum, _mm512_mul_ps(d, _mm512_cvtepi32_ps(sums)));
}

// Where all elements are there no masks need be made.
void avx512_quantize(const float* x, int64_t count, cpu_chunk* chunk) {
    if (count == CPU_CHUNK) {
        quantize(x, CPU_CHUNK, chunk);
    } else {
        quantize(x, count, chunk);
    }
}
