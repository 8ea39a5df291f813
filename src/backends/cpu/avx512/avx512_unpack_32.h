// Eight blocks of 32 weights. Included by avx512_unpack.h.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_32_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_32_H

#include "backends/cpu/avx512/avx512_unpack.h"

#define FOUR_WORDS(first) (first), (first) + 1, (first) + 2, (first) + 3

// Of the first eight codes bytes of each block; the last is counted from word 64.
_Alignas(64) static const uint16_t q4_0_words[32] = {FOUR_WORDS(1),  FOUR_WORDS(10), FOUR_WORDS(19),
                                                     FOUR_WORDS(28), FOUR_WORDS(37), FOUR_WORDS(46),
                                                     FOUR_WORDS(55), FOUR_WORDS(0)};
_Alignas(64) static const uint16_t q4_0_scales[32] = {0,  0,  9,  9,  18, 18, 27, 27,
                                                      36, 36, 45, 45, 54, 54, 63, 63};

// Sixteen bytes of four blocks, two blocks apart each.
AVX512_INLINE __m512i every_other(const uint8_t* bytes, int block_bytes) {
    const uint8_t* b = bytes;
    const int step = 2 * block_bytes;
    __m512i all = _mm512_castsi128_si512(load16(b));
    all = _mm512_mask_broadcast_i32x4(all, 0x00F0, load16(b + step));
    all = _mm512_mask_broadcast_i32x4(all, 0x0F00, load16(b + 2 * step));
    return _mm512_mask_broadcast_i32x4(all, 0xF000, load16(b + 3 * step));
}

// The 4-bit codes of eight blocks, which begin at `codes` in the first.
AVX512_INLINE void unpack_nibbles(const uint8_t* codes, int block_bytes, __m512i u[4]) {
    const __m512i even = every_other(codes, block_bytes);
    const __m512i odd = every_other(codes + block_bytes, block_bytes);
    split_nibbles(_mm512_unpacklo_epi64(even, odd), _mm512_unpackhi_epi64(even, odd), u);
}

// Adds 16 where the fifth bit of an element is set. Four bytes with the bits of a group lie in its
// 64 bits of `headers`, from byte `begin` on.
AVX512_INLINE void add_fifths(__m512i headers, int begin, __m512i u[4]) {
    const __m512i bits = _mm512_set1_epi64((long long)0x8040201008040201ull);
    const __m512i eight = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0808080808080808, 0));
    for (int j = 0; j < 4; j++) {
        const __m512i index = _mm512_add_epi8(eight, _mm512_set1_epi8((char)(begin + j)));
        const __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(headers, index), bits);
        u[j] = _mm512_mask_add_epi8(u[j], set, u[j], _mm512_set1_epi8(16));
    }
}

// Half `which` of each 64 bits, twice, as floats.
AVX512_INLINE __m512 header_halves(__m512i headers, int which) {
    const __m256i twice =
        _mm256_setr_epi16(0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28);
    const __m512i index =
        _mm512_castsi256_si512(_mm256_add_epi16(twice, _mm256_set1_epi16((short)which)));
    return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_permutexvar_epi16(index, headers)));
}

AVX512_INLINE avx512_weights unpack_q8_0(const uint8_t* b) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    __m512i pairs[4];
    for (int i = 0; i < 4; i++) {
        const __m512i first = _mm512_castsi256_si512(load32(b + 68 * i + 2));
        pairs[i] = _mm512_xor_si512(
            _mm512_mask_broadcast_i64x4(first, 0xF0, load32(b + 68 * i + 36)), flip);
    }
    // Words 0 and 1, then 2 and 3, of four blocks.
    const __m512i low = _mm512_setr_epi64(0, 4, 8, 12, 1, 5, 9, 13);
    const __m512i high = _mm512_setr_epi64(2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low_first = _mm512_permutex2var_epi64(pairs[0], low, pairs[1]);
    const __m512i low_last = _mm512_permutex2var_epi64(pairs[2], low, pairs[3]);
    const __m512i high_first = _mm512_permutex2var_epi64(pairs[0], high, pairs[1]);
    const __m512i high_last = _mm512_permutex2var_epi64(pairs[2], high, pairs[3]);
    avx512_weights w;
    w.u[0] = _mm512_shuffle_i64x2(low_first, low_last, 0x44);
    w.u[1] = _mm512_shuffle_i64x2(low_first, low_last, 0xEE);
    w.u[2] = _mm512_shuffle_i64x2(high_first, high_last, 0x44);
    w.u[3] = _mm512_shuffle_i64x2(high_first, high_last, 0xEE);
    // 128 halves hold the scales: those of four blocks in each 64.
    const __m512i low_index = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 17, 17, 34, 34, 51, 51, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i high_index = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 21, 21, 38, 38, 55, 55));
    const __m512i first = _mm512_permutex2var_epi16(load64(b), low_index, load64(b + 64));
    const __m512i last = _mm512_permutex2var_epi16(load64(b + 128), high_index, load64(b + 192));
    w.scale = _mm512_cvtph_ps(
        _mm256_blend_epi32(_mm512_castsi512_si256(first), _mm512_castsi512_si256(last), 0xF0));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Words of 16 bits: block i has its scale in word 9 i of a chunk and then two times four words of
// codes. Two registers hold words 0 .. 63; words 64 .. 71, of block 7, come from ordinary ones,
// beside what the vector units have to do. High nibbles stay where they are, as sixteen times their
// number.
AVX512_INLINE avx512_weights unpack_q4_0(const uint8_t* b) {
    const __m512i first = load_once(b);
    const __m512i second = load_once(b + 64);
    long long last[2];
    memcpy(last, b + 128, sizeof last);
    const __m512i index = _mm512_load_si512(q4_0_words);
    const __m512i next = _mm512_add_epi16(index, _mm512_set1_epi16(4));
    const __m512i scales = _mm512_permutex2var_epi16(first, _mm512_load_si512(q4_0_scales), second);
    const __m512i heads =
        _mm512_mask_set1_epi64(_mm512_permutex2var_epi16(first, index, second), 0x80, last[0]);
    const __m512i tails =
        _mm512_mask_set1_epi64(_mm512_permutex2var_epi16(first, next, second), 0x80, last[1]);
    const __m512i low = _mm512_set1_epi8(0x0F);
    const __m512i high = _mm512_set1_epi8((char)0xF0);
    avx512_weights w;
    w.u[0] = _mm512_and_si512(heads, low);
    w.u[1] = _mm512_and_si512(tails, low);
    w.u[2] = _mm512_and_si512(heads, high);
    w.u[3] = _mm512_and_si512(tails, high);
    w.scale = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Blocks begin with two halves: the scale, and what is added to all numbers. Eight of them are 40
// words of 32 bits.
AVX512_INLINE avx512_weights unpack_q4_1(const uint8_t* b) {
    avx512_weights w;
    unpack_nibbles(b + 4, 20, w.u);
    const __m512i index =
        _mm512_setr_epi32(0, 0, 5, 5, 10, 10, 15, 15, 16, 16, 21, 21, 26, 26, 31, 31);
    const __m512i words = _mm512_permutex2var_epi32(load64(b), index, load64(b + 80));
    const __m256i addends = _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16));
    w.scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    w.minimum = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_cvtph_ps(addends));
    return w;
}

// Eight blocks are 88 halves; the headers are halves 11 i .. 11 i + 2.
AVX512_INLINE avx512_weights unpack_q5_0(const uint8_t* b) {
    avx512_weights w;
    unpack_nibbles(b + 6, 22, w.u);
    const __m512i index = _mm512_setr_epi64(
        0x0000000200010000, 0x0000000D000C000B, 0x0000001800170016, 0x0000002300220021,
        0x0000002E002D002C, 0x0000003900380037, 0x0000000C000B000A, 0x0000001700160015);
    const __m512i first = _mm512_permutex2var_epi16(load64(b), index, load64(b + 64));
    const __m512i headers =
        _mm512_mask_permutexvar_epi16(first, 0xFF000000u, index, load64(b + 112));
    add_fifths(headers, 2, w.u);
    w.scale = header_halves(headers, 0);
    w.minimum = _mm512_setzero_ps();
    return w;
}

// The headers are 64 bits: two halves as in Q4_1, and the fifth bits.
AVX512_INLINE avx512_weights unpack_q5_1(const uint8_t* b) {
    avx512_weights w;
    unpack_nibbles(b + 8, 24, w.u);
    const __m512i index = _mm512_setr_epi64(0, 3, 6, 9, 12, 15, 2, 5);
    const __m512i first = _mm512_permutex2var_epi64(load64(b), index, load64(b + 64));
    const __m512i headers = _mm512_mask_permutexvar_epi64(first, 0xC0, index, load64(b + 128));
    add_fifths(headers, 4, w.u);
    w.scale = header_halves(headers, 0);
    w.minimum = _mm512_sub_ps(_mm512_setzero_ps(), header_halves(headers, 1));
    return w;
}

AVX512_INLINE avx512_weights unpack_iq4_nl(const uint8_t* b) {
    avx512_weights w = unpack_q4_0(b); // the same layout
    w.u[2] = _mm512_srli_epi16(w.u[2], 4);
    w.u[3] = _mm512_srli_epi16(w.u[3], 4);
    look_up(iq4_values, IQ4_OFFSET, w.u);
    return w;
}

// Half of the powers of two with these exponents, as e8m0_half in tensor/dtype_values.h.
AVX512_INLINE __m256i e8m0_halves(__m256i exponents) {
    const __m256i one = _mm256_set1_epi32(1);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(exponents, one), 23);
    const __m256i small = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), exponents);
    const __mmask8 is_small = _mm256_cmple_epu32_mask(exponents, one);
    const __mmask8 is_nan = _mm256_cmpeq_epi32_mask(exponents, _mm256_set1_epi32(255));
    const __m256i bits = _mm256_mask_mov_epi32(normal, is_small, small);
    return _mm256_mask_mov_epi32(bits, is_nan, _mm256_set1_epi32(0x7FC00000));
}

AVX512_INLINE avx512_weights unpack_mxfp4(const uint8_t* b) {
    avx512_weights w;
    unpack_nibbles(b + 1, 17, w.u);
    look_up(fp4_values, FP4_OFFSET, w.u);
    // Byte 17 i lies in half 17 i / 2, low in those of even blocks.
    const __m512i index = _mm512_castsi256_si512(_mm256_setr_epi32(0, 8, 17, 25, 34, 42, 51, 59));
    const __m256i halves =
        _mm512_castsi512_si256(_mm512_permutex2var_epi16(load64(b), index, load64(b + 64)));
    const __m256i shifts = _mm256_setr_epi32(0, 8, 0, 8, 0, 8, 0, 8);
    const __m256i exponents =
        _mm256_and_si256(_mm256_srlv_epi32(halves, shifts), _mm256_set1_epi32(0xFF));
    w.scale = _mm512_castsi512_ps(twice_epi32(e8m0_halves(exponents)));
    w.minimum = _mm512_setzero_ps();
    return w;
}

#endif
