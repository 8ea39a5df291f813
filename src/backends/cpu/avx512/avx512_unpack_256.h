// A block of 256 weights. Included by avx512_unpack.h.
//
// In these formats the eight groups of 32 share bytes, so that words of 64 bits of the block are
// copied to where they are wanted, and then shifted by a number of bits for each group.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_256_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_256_H

#include "backends/cpu/avx512/avx512_unpack.h"

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each in bytes 0 .. 3 and
// 4 .. 7, the others as nibbles of bytes 8 .. 11 and the upper bits of bytes 0 .. 7. Words of the
// result are the first four scales, their minima, the other scales and theirs. Ordinary registers
// do it beside what the vector units have to do, both kinds in 64 bits.
AVX512_INLINE __m128i unpack_k_bytes(const uint8_t* packed) {
    uint64_t both;
    uint32_t nibbles;
    memcpy(&both, packed, sizeof both);
    memcpy(&nibbles, packed + 8, sizeof nibbles);
    const uint64_t first = both & 0x3F3F3F3F3F3F3F3F;
    const uint64_t low = (nibbles | (uint64_t)nibbles << 28) & 0x0F0F0F0F0F0F0F0F;
    const uint64_t last = low | (both >> 2 & 0x3030303030303030);
    return _mm_set_epi64x((long long)last, (long long)first);
}

// 16 bytes: units d, dmin in halves, then scales and minima. Scales of odd groups come `odd` times
// as large.
AVX512_INLINE void unpack_k_scales(const uint8_t* b, float odd, avx512_weights* w) {
    uint32_t halves;
    memcpy(&halves, b, sizeof halves);
    const __m128 units = _mm_cvtph_ps(_mm_cvtsi32_si128((int)halves)); // d, dmin, 0, 0
    const __m128 turned = _mm_mul_ps(_mm_movelh_ps(units, units), _mm_setr_ps(1, 1, odd, odd));
    const __m512i of_unit = _mm512_setr_epi32(0, 2, 0, 2, 1, 1, 1, 1, 0, 2, 0, 2, 1, 1, 1, 1);
    const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(unpack_k_bytes(b + 4)));
    const __m512 all =
        _mm512_mul_ps(numbers, _mm512_permutexvar_ps(of_unit, _mm512_castps128_ps512(turned)));
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 8, 8, 9, 9, 10, 10, 11, 11);
    w->scale = _mm512_permutexvar_ps(twice, all);
    w->minimum = _mm512_permutexvar_ps(_mm512_add_epi32(twice, _mm512_set1_epi32(4)), all);
}

// Of 128 bytes: each 32 hold a group in their low nibbles and the next in the high ones.
AVX512_INLINE void unpack_k_nibbles(const uint8_t* bytes, __m512i u[4]) {
    const __m512i first = load64(bytes);
    const __m512i last = load64(bytes + 64);
    const __m512i shifts = _mm512_setr_epi64(0, 4, 0, 4, 0, 4, 0, 4);
    const __m512i index = _mm512_setr_epi64(0, 0, 4, 4, 8, 8, 12, 12);
    for (int j = 0; j < 4; j++) {
        const __m512i both =
            _mm512_permutex2var_epi64(first, _mm512_add_epi64(index, _mm512_set1_epi64(j)), last);
        u[j] = _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(0x0F));
    }
}

// Adds bit i of each of 32 bytes to group i, moved to bit `to`.
AVX512_INLINE void add_bits(const uint8_t* bytes, int to, __m512i u[4]) {
    const __m512i turns =
        _mm512_sub_epi64(_mm512_set1_epi64(to), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    const __m512i bit = _mm512_set1_epi8((char)(1 << to));
    for (int j = 0; j < 4; j++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * j, sizeof word);
        const __m512i turned = _mm512_rolv_epi64(_mm512_set1_epi64((long long)word), turns);
        u[j] = _mm512_or_si512(u[j], _mm512_and_si512(turned, bit));
    }
}

// The nibbles of odd groups stay where they are, as sixteen times their number.
AVX512_INLINE avx512_weights unpack_q4_k(const uint8_t* b) {
    const __m512i first = load64(b + 16);
    const __m512i last = load64(b + 80);
    const __m512i index = _mm512_setr_epi64(0, 0, 4, 4, 8, 8, 12, 12);
    const __m512i nibbles = _mm512_broadcast_i32x4(
        _mm_set_epi64x((long long)0xF0F0F0F0F0F0F0F0ull, 0x0F0F0F0F0F0F0F0F));
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        w.u[j] = _mm512_and_si512(
            _mm512_permutex2var_epi64(first, _mm512_add_epi64(index, _mm512_set1_epi64(j)), last),
            nibbles);
    }
    unpack_k_scales(b, 1.0f / 16, &w);
    return w;
}

AVX512_INLINE avx512_weights unpack_q5_k(const uint8_t* b) {
    avx512_weights w;
    unpack_k_nibbles(b + 48, w.u);
    add_bits(b + 16, 4, w.u);
    unpack_k_scales(b, 1, &w);
    return w;
}

// Of 64 bytes: each 32 hold four groups in two bits.
AVX512_INLINE void unpack_two_bits(const uint8_t* bytes, __m512i u[4]) {
    const __m512i all = load64(bytes);
    const __m512i shifts = _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6);
    const __m512i index = _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4);
    for (int j = 0; j < 4; j++) {
        const __m512i words =
            _mm512_permutexvar_epi64(_mm512_add_epi64(index, _mm512_set1_epi64(j)), all);
        u[j] = _mm512_and_si512(_mm512_srlv_epi64(words, shifts), _mm512_set1_epi8(3));
    }
}

AVX512_INLINE avx512_weights unpack_q2_k(const uint8_t* b) {
    avx512_weights w;
    unpack_two_bits(b + 16, w.u);
    const __m512i packed = _mm512_cvtepu8_epi32(load16(b));
    const __m512 scales = _mm512_cvtepi32_ps(_mm512_and_si512(packed, _mm512_set1_epi32(0x0F)));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 80)), scales);
    w.minimum = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 82)),
                              _mm512_cvtepi32_ps(_mm512_srli_epi32(packed, 4)));
    return w;
}

// Sixteen 6-bit numbers in 12 bytes, nibbles of bytes 0 .. 7 and upper bits in bytes 8 .. 11; minus
// 32. Two bytes more are read in front.
AVX512_INLINE __m128i unpack_q3_k_scales(const uint8_t* packed) {
    const __m128i all = load16(packed - 2);
    const __m128i low_index = _mm_setr_epi8(2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5, 6, 7, 8, 9);
    const __m128i high_index =
        _mm_setr_epi8(10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13, 10, 11, 12, 13);
    const __m128i low = _mm_srlv_epi64(_mm_shuffle_epi8(all, low_index), _mm_set_epi64x(4, 0));
    const __m128i high =
        _mm_rolv_epi32(_mm_shuffle_epi8(all, high_index), _mm_setr_epi32(4, 2, 0, 30));
    const __m128i both = _mm_or_si128(_mm_and_si128(low, _mm_set1_epi8(0x0F)),
                                      _mm_and_si128(high, _mm_set1_epi8(0x30)));
    return _mm_sub_epi8(both, _mm_set1_epi8(32));
}

AVX512_INLINE avx512_weights unpack_q3_k(const uint8_t* b) {
    avx512_weights w;
    unpack_two_bits(b + 32, w.u);
    add_bits(b, 2, w.u);
    const __m512i scales = _mm512_cvtepi8_epi32(unpack_q3_k_scales(b + 96));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 108)), _mm512_cvtepi32_ps(scales));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Of 128 bytes each 64 hold two groups in their low nibbles and two in the high ones; of 64 bytes
// each 32 hold the upper two bits of four groups.
AVX512_INLINE avx512_weights unpack_q6_k(const uint8_t* b) {
    const __m512i first = load64(b);
    const __m512i last = load64(b + 64);
    const __m512i highs = load64(b + 128);
    const __m512i low_index = _mm512_setr_epi64(0, 4, 0, 4, 8, 12, 8, 12);
    const __m512i high_index = _mm512_setr_epi64(0, 0, 0, 0, 4, 4, 4, 4);
    const __m512i low_shifts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    const __m512i high_turns = _mm512_setr_epi64(4, 2, 0, 62, 4, 2, 0, 62); // to bits 4 and 5
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const __m512i step = _mm512_set1_epi64(j);
        const __m512i low = _mm512_srlv_epi64(
            _mm512_permutex2var_epi64(first, _mm512_add_epi64(low_index, step), last), low_shifts);
        const __m512i high = _mm512_rolv_epi64(
            _mm512_permutexvar_epi64(_mm512_add_epi64(high_index, step), highs), high_turns);
        w.u[j] = _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi8(0x0F)),
                                 _mm512_and_si512(high, _mm512_set1_epi8(0x30)));
    }
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 208)),
                            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load16(b + 192))));
    w.minimum = _mm512_setzero_ps();
    return w;
}

AVX512_INLINE avx512_weights unpack_iq4_xs(const uint8_t* b) {
    const __m512i first = load64(b + 8);
    const __m512i last = load64(b + 72);
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    avx512_weights w;
    split_nibbles(_mm512_permutex2var_epi64(first, even, last),
                  _mm512_permutex2var_epi64(first, odd, last), w.u);
    look_up(iq4_values, IQ4_OFFSET, w.u);
    uint16_t high_scales;
    uint32_t low_scales;
    memcpy(&high_scales, b + 2, sizeof high_scales);
    memcpy(&low_scales, b + 4, sizeof low_scales);
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    const __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32(high_scales), shifts);
    const __m256i low =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)low_scales), _mm256_add_epi32(shifts, shifts));
    const __m256i scales =
        _mm256_or_si256(_mm256_and_si256(low, _mm256_set1_epi32(0x0F)),
                        _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4));
    w.scale = _mm512_mul_ps(
        _mm512_set1_ps(f16_at(b)),
        _mm512_cvtepi32_ps(twice_epi32(_mm256_sub_epi32(scales, _mm256_set1_epi32(32)))));
    w.minimum = _mm512_setzero_ps();
    return w;
}

#endif
