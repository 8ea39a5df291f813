// The words of lanes/lanes_products.h for AVX2 with FMA and F16C, and AVX-VNNI where the compiler
// may use it.
#ifndef WEIR_BACKENDS_CPU_AVX2_AVX2_LANES_H
#define WEIR_BACKENDS_CPU_AVX2_AVX2_LANES_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES_INLINE static inline __attribute__((always_inline))

typedef __m256i lanes_bytes;
typedef __m256i lanes_ints;
typedef __m256 lanes_floats;

LANES_INLINE lanes_bytes lanes_load(const void* bytes) {
    return _mm256_loadu_si256((const __m256i*)bytes);
}

LANES_INLINE void lanes_store(void* bytes, lanes_bytes v) {
    _mm256_storeu_si256((__m256i*)bytes, v);
}

LANES_INLINE lanes_bytes lanes_set(uint8_t byte) {
    return _mm256_set1_epi8((char)byte);
}

LANES_INLINE lanes_bytes lanes_word(const void* bytes) {
    int32_t word;
    memcpy(&word, bytes, sizeof word);
    return _mm256_set1_epi32(word);
}

LANES_INLINE lanes_bytes lanes_or(lanes_bytes a, lanes_bytes b) {
    return _mm256_or_si256(a, b);
}

LANES_INLINE lanes_bytes lanes_down(lanes_bytes v, int shift, uint8_t mask) {
    return _mm256_and_si256(_mm256_srli_epi16(v, shift), lanes_set(mask));
}

LANES_INLINE lanes_bytes lanes_up(lanes_bytes v, int shift, uint8_t mask) {
    return _mm256_and_si256(_mm256_slli_epi16(v, shift), lanes_set(mask));
}

LANES_INLINE lanes_bytes lanes_nibbles(const uint8_t* bytes) {
    const __m128i both = _mm_loadu_si128((const __m128i*)(const void*)bytes);
    const __m256i wide =
        _mm256_insertf128_si256(_mm256_castsi128_si256(both), _mm_srli_epi16(both, 4), 1);
    return _mm256_and_si256(wide, lanes_set(0x0F));
}

LANES_INLINE lanes_bytes lanes_where(lanes_bytes v, uint8_t bits, uint8_t mask) {
    const __m256i wanted = lanes_set(bits);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(v, wanted), wanted),
                            lanes_set(mask));
}

LANES_INLINE lanes_bytes lanes_where_bits(const uint8_t* bytes, uint8_t mask) {
    const __m256i index = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                           2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((int64_t)UINT64_C(0x8040201008040201));
    const __m256i spread = _mm256_shuffle_epi8(lanes_word(bytes), index);
    return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), lanes_set(mask));
}

LANES_INLINE lanes_bytes lanes_look_up(lanes_bytes codes, const int8_t values[16], uint8_t addend) {
    const __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)values));
    return _mm256_shuffle_epi8(_mm256_add_epi8(table, lanes_set(addend)), codes);
}

// Pairs of products are kept in 16 bits, which hold `steps` of them without overflow:
// 2 * 127 * (2^bits - 1) * steps < 2^15. Weights of 8 bits are signed, at most 128 in magnitude:
// 2 * 127 * 128 < 2^15.
#ifdef __AVXVNNI__
#define LANES_STEPS(bits) 8
#else
#define LANES_STEPS(bits) ((bits) <= 4 ? 8 : (bits) == 5 ? 4 : (bits) == 6 ? 2 : 1)
#endif

typedef __m256i lanes_part;

LANES_INLINE lanes_part lanes_part_zero(void) {
    return _mm256_setzero_si256();
}

// The instructions multiply unsigned with signed: where weights are signed their sign goes to q.
LANES_INLINE lanes_part lanes_part_add(lanes_part part, lanes_bytes u, lanes_bytes q,
                                       bool is_signed) {
    const __m256i left = is_signed ? _mm256_abs_epi8(u) : u;
    const __m256i right = is_signed ? _mm256_sign_epi8(q, u) : q;
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(part, left, right);
#else
    return _mm256_add_epi16(part, _mm256_maddubs_epi16(left, right));
#endif
}

LANES_INLINE lanes_ints lanes_part_finish(lanes_ints sums, lanes_part part) {
#ifdef __AVXVNNI__
    return _mm256_add_epi32(sums, part);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(part, _mm256_set1_epi16(1)));
#endif
}

LANES_INLINE lanes_ints lanes_int(int32_t number) {
    return _mm256_set1_epi32(number);
}

LANES_INLINE lanes_floats lanes_to_floats(lanes_ints v) {
    return _mm256_cvtepi32_ps(v);
}

LANES_INLINE void lanes_store_quants(const lanes_floats v[4], int8_t* q) {
    const __m256i low = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
    const __m256i high = _mm256_packs_epi32(_mm256_cvtps_epi32(v[2]), _mm256_cvtps_epi32(v[3]));
    const __m256i mixed = _mm256_packs_epi16(low, high);
    lanes_store(q, _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

LANES_INLINE void lanes_add_fours(lanes_ints v, int32_t sums[2]) {
    const __m256i pairs = _mm256_add_epi32(v, _mm256_shuffle_epi32(v, 0xB1));
    const __m256i fours = _mm256_add_epi32(pairs, _mm256_shuffle_epi32(pairs, 0x4E));
    sums[0] = _mm256_extract_epi32(fours, 0);
    sums[1] = _mm256_extract_epi32(fours, 4);
}

LANES_INLINE lanes_floats lanes_load_floats(const float* source) {
    return _mm256_loadu_ps(source);
}

LANES_INLINE void lanes_store_floats(float* target, lanes_floats v) {
    _mm256_storeu_ps(target, v);
}

LANES_INLINE lanes_floats lanes_float(float number) {
    return _mm256_set1_ps(number);
}

LANES_INLINE lanes_floats lanes_add(lanes_floats a, lanes_floats b) {
    return _mm256_add_ps(a, b);
}

LANES_INLINE lanes_floats lanes_mul(lanes_floats a, lanes_floats b) {
    return _mm256_mul_ps(a, b);
}

LANES_INLINE lanes_floats lanes_fma(lanes_floats a, lanes_floats b, lanes_floats c) {
    return _mm256_fmadd_ps(a, b, c);
}

LANES_INLINE lanes_floats lanes_fnma(lanes_floats a, lanes_floats b, lanes_floats c) {
    return _mm256_fnmadd_ps(a, b, c);
}

// As integers magnitudes have the order that they have as numbers, and NaN is above all of them:
// the maximum of floats would lose it.
LANES_INLINE lanes_floats lanes_larger_magnitude(lanes_floats a, lanes_floats b) {
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    return _mm256_castsi256_ps(
        _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(a), magnitude),
                         _mm256_and_si256(_mm256_castps_si256(b), magnitude)));
}

// Of magnitudes.
LANES_INLINE float lanes_largest(lanes_floats v) {
    const __m256i all = _mm256_castps_si256(v);
    const __m128i four =
        _mm_max_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xB1))));
}

LANES_INLINE float lanes_sum(lanes_floats v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

LANES_INLINE lanes_floats lanes_from_f16(const void* halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)halves));
}

LANES_INLINE lanes_floats lanes_from_bf16(const void* halves) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)halves));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

LANES_INLINE lanes_floats lanes_from_u8(const void* bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadu_si64(bytes)));
}

LANES_INLINE lanes_floats lanes_from_i8(const void* bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadu_si64(bytes)));
}

LANES_INLINE float lanes_half(const void* bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return _cvtsh_ss(half);
}

LANES_INLINE void lanes_twice(lanes_floats v, lanes_floats twice[2]) {
    twice[0] = _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3));
    twice[1] = _mm256_permutevar8x32_ps(v, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7));
}

LANES_INLINE lanes_floats lanes_fours(const float* pair) {
    double both;
    memcpy(&both, pair, sizeof both);
    return _mm256_permutevar_ps(_mm256_castpd_ps(_mm256_set1_pd(both)),
                                _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
}

LANES_INLINE void lanes_transpose(lanes_bytes r[8]) {
    __m256i t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(r[i], r[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++) {
        r[i] = t[i];
    }
}

#endif
