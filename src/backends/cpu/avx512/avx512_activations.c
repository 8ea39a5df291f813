// Rows of x as bytes, in two orders: those of a group of 32 are spread over four registers as the
// bytes of weights are (see avx512_unpack.h), or over two (see avx512_k_few.c).
#include <float.h>

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

// Two registers, whose first and last halves come from words of `a` and `b` and from the same of
// `c` and `d`: the first register takes what the first eight numbers of the index say.
AVX512_INLINE void spread_words(__m512i index, __m512i a, __m512i b, __m512i c, __m512i d,
                                __m512i q[2]) {
    const __m512i first = _mm512_permutex2var_epi32(a, index, b);
    const __m512i last = _mm512_permutex2var_epi32(c, index, d);
    q[0] = _mm512_shuffle_i64x2(first, last, 0x44);
    q[1] = _mm512_shuffle_i64x2(first, last, 0xEE);
}

// From the bytes of pairs of groups, word 4 l + t of which holds elements 4 l .. 4 l + 3 of part t
// of the pair, to those of all eight groups.
AVX512_INLINE void spread_groups(const __m512i pairs[4], __m512i q[4]) {
    const __m512i low =
        _mm512_setr_epi32(0, 4, 2, 6, 16, 20, 18, 22, 8, 12, 10, 14, 24, 28, 26, 30);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(1));
    spread_words(low, pairs[0], pairs[1], pairs[2], pairs[3], q);
    spread_words(high, pairs[0], pairs[1], pairs[2], pairs[3], q + 2);
}

// The same to even groups, then odd ones.
AVX512_INLINE void spread_by_parity(const __m512i pairs[4], __m512i q[4]) {
    const __m512i even =
        _mm512_setr_epi32(0, 4, 16, 20, 1, 5, 17, 21, 8, 12, 24, 28, 9, 13, 25, 29);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(2));
    spread_words(even, pairs[0], pairs[2], pairs[1], pairs[3], q);
    spread_words(odd, pairs[0], pairs[2], pairs[1], pairs[3], q + 2);
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

// The largest magnitude of each group, twice.
AVX512_INLINE __m512 largest_of_groups(const float* x, int64_t count) {
    __m512 largest[GROUPS];
#pragma GCC unroll 8
    for (int g = 0; g < GROUPS; g++) {
        largest[g] = larger(_mm512_abs_ps(load_part(x, count, 2 * g)),
                            _mm512_abs_ps(load_part(x, count, 2 * g + 1)));
    }
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11);
    return _mm512_permutexvar_ps(twice, largest_lanes(largest));
}

// Rounds pairs of groups, whose numbers are multiplied by their lanes of `inverse`.
AVX512_INLINE void round_pairs(const float* x, int64_t count, __m512 inverse, __m512i pairs[4]) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const __m512 first = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * i), inverse);
        const __m512 last = _mm512_permutexvar_ps(_mm512_set1_epi32(4 * i + 2), inverse);
        pairs[i] = _mm512_packs_epi16(
            pack_group(load_part(x, count, 4 * i), load_part(x, count, 4 * i + 1), first),
            pack_group(load_part(x, count, 4 * i + 2), load_part(x, count, 4 * i + 3), last));
    }
}

AVX512_INLINE void quantize(const float* x, int64_t count, cpu_chunk* chunk) {
    const __m512 most = largest_of_groups(x, count);
    const __m512 levels = _mm512_set1_ps(127.0f);
    const __mmask16 positive = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    const __m512 inverse = _mm512_maskz_div_ps(positive, levels, most);
    const __m512 d = _mm512_div_ps(most, levels);
    __m512i pairs[4];
    round_pairs(x, count, inverse, pairs);
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

// The largest lane in all lanes; NaN is above all (see `larger`).
AVX512_INLINE __m512 largest_in_all(__m512 m) {
    m = larger(m, _mm512_shuffle_f32x4(m, m, 0x4E));
    m = larger(m, _mm512_shuffle_f32x4(m, m, 0xB1));
    return larger(m, _mm512_permute_ps(m, 0x4E));
}

// Sums of groups, each twice: four lanes of the first two registers belong to an even group, the
// lanes in the same place of the others to the odd one that follows it.
AVX512_INLINE __m512i sum_by_parity(const __m512i q[4]) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sums[2];
    for (int i = 0; i < 2; i++) {
        const __m512i first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, q[2 * i]);
        const __m512i lanes = _mm512_dpbusd_epi32(first, ones, q[2 * i + 1]);
        const __m512i pairs = _mm512_add_epi32(lanes, _mm512_shuffle_epi32(lanes, 0xB1));
        sums[i] = _mm512_add_epi32(pairs, _mm512_shuffle_i32x4(pairs, pairs, 0xB1));
    }
    const __m512i index =
        _mm512_setr_epi32(0, 0, 16, 16, 8, 8, 24, 24, 2, 2, 18, 18, 10, 10, 26, 26);
    return _mm512_permutex2var_epi32(sums[0], index, sums[1]);
}

// Of numbers that come twice, and whose largest magnitude is `most`: the ratios to it.
AVX512_INLINE __m512 ratios(__m512 numbers, __m512 most) {
    const __mmask16 positive = _mm512_cmp_ps_mask(most, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_maskz_div_ps(positive, numbers, most);
}

// Scales are integers up to 127 times a unit, rounded up, so that no group is cut off: with 127
// steps below the largest one of the chunk, where a group loses precision others are far coarser.
// Where a scale is not normal, its inverse could be infinite: such a group becomes zero.
AVX512_INLINE void quantize_k(const float* x, int64_t count, cpu_chunk* chunk) {
    const __m512 most = largest_of_groups(x, count);
    const __m512 all = largest_in_all(most);
    const __m512 levels = _mm512_set1_ps(127.0f);
    const __m512i factors = _mm512_cvt_roundps_epi32(_mm512_mul_ps(ratios(most, all), levels),
                                                     _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    const __m512 unit = _mm512_div_ps(all, _mm512_set1_ps(127.0f * 127.0f));
    const __m512 d = _mm512_mul_ps(_mm512_cvtepi32_ps(factors), unit);
    const __mmask16 normal = _mm512_cmp_ps_mask(d, _mm512_set1_ps(FLT_MIN), _CMP_GE_OQ);
    __m512i pairs[4];
    round_pairs(x, count, _mm512_maskz_div_ps(normal, _mm512_set1_ps(1.0f), d), pairs);
    __m512i q[4];
    spread_by_parity(pairs, q);
    for (int j = 0; j < 4; j++) {
        _mm512_store_si512(chunk->q + 64 * j, q[j]);
    }
    const __m512 d_sum = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum_by_parity(q)));
    const __m512 most_sum = largest_in_all(_mm512_abs_ps(d_sum));
    const __m512 sum_levels = _mm512_set1_ps(32767.0f);
    const __m512i sum_factors =
        _mm512_cvtps_epi32(_mm512_mul_ps(ratios(d_sum, most_sum), sum_levels));
    // Words of four bytes of the scales, of the minima, of the other scales and minima: where
    // a block of weights has them.
    const __m512i index = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 4, 8, 12, 32, 36, 40, 44, 16, 20, 24, 28, 48, 52, 56, 60));
    const __m512i words = _mm512_permutex2var_epi16(factors, index, sum_factors);
    _mm256_store_si256((__m256i*)(void*)chunk->integers.factors, _mm512_castsi512_si256(words));
    chunk->integers.units[0] = _mm512_cvtss_f32(unit);
    chunk->integers.units[1] = _mm512_cvtss_f32(_mm512_div_ps(most_sum, sum_levels));
    _mm512_store_ps(chunk->d, d);
    _mm512_store_ps(chunk->d_sum, _mm512_maskz_mov_ps(0x5555, d_sum));
}

// Rows of such types have whole chunks.
void avx512_quantize_k(const float* x, int64_t count, cpu_chunk* chunk) {
    (void)count;
    quantize_k(x, CPU_CHUNK, chunk);
}
