// Blocks of the quantised types as bytes in registers: a chunk of 256 weights in four registers of
// 64, and 16 scales, one for each 16 of them. Groups of 32 have the same scale twice.
//
// The layouts are those of the formats (see tensor/dtype_decode.h, which is the definition that
// these are tested against). No function reads outside the blocks that it is given.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype_values.h"

// Stands for scale * (u - offset) - minimum, with the offset of the type.
typedef struct avx512_weights {
    __m512i u[4];
    __m512 scale;
    __m512 minimum; // only of types that have one
} avx512_weights;

static inline float f16_at(const uint8_t* bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return _cvtsh_ss(half);
}

static inline __m512i load64(const uint8_t* bytes) {
    return _mm512_loadu_si512(bytes);
}

// Indices i * step for i = 0 .. 7, each twice: where eight blocks keep a half, in halves.
static inline __m512i pair_steps(int step) {
    const __m512i twice =
        _mm512_castsi256_si512(_mm256_setr_epi16(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7));
    return _mm512_mullo_epi16(twice, _mm512_set1_epi16((short)step));
}

// The first halves of eight blocks of `halves` halves, each twice.
static inline __m512 block_halves(const uint8_t* blocks, int halves) {
    uint16_t found[16];
    for (int i = 0; i < 8; i++) {
        memcpy(&found[2 * i], blocks + 2 * i * halves, 2);
        found[2 * i + 1] = found[2 * i];
    }
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(const void*)found));
}

// The nibbles of two blocks as 64 bytes: low and high of the first, low and high of the second.
static inline __m512i pair_nibbles(const uint8_t* first, const uint8_t* second) {
    const __m256i a =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)(const void*)first));
    const __m256i b =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)(const void*)second));
    const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    const __m512i shifts = _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4);
    return _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(0x0F));
}

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: bytes 0 .. 7 of the result are the scales,
// 8 .. 15 the minima.
static inline __m128i unpack_6bit(const uint8_t* packed) {
    uint32_t words[3];
    memcpy(words, packed, sizeof words);
    const uint32_t low = 0x3F3F3F3Fu;
    const uint32_t nibble = 0x0F0F0F0Fu;
    const uint32_t two = 0x03030303u;
    return _mm_setr_epi32(
        (int)(words[0] & low), (int)((words[2] & nibble) | ((words[0] >> 6 & two) << 4)),
        (int)(words[1] & low), (int)((words[2] >> 4 & nibble) | ((words[1] >> 6 & two) << 4)));
}

// Bytes 0 .. 7, or 8 .. 15, each twice, as floats.
static inline __m512 twice_as_floats(__m128i bytes, int begin) {
    const __m128i index = _mm_add_epi8(
        _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), _mm_set1_epi8((char)begin));
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_shuffle_epi8(bytes, index)));
}

static inline __m512i join(__m256i low, __m256i high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

static inline __m256i load32(const uint8_t* bytes) {
    return _mm256_loadu_si256((const __m256i*)(const void*)bytes);
}

static inline avx512_weights unpack_q8_0(const uint8_t* b) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const uint8_t* pair = b + 68 * j;
        w.u[j] = _mm512_xor_si512(join(load32(pair + 2), load32(pair + 36)), flip);
    }
    // 128 halves hold the scales: those of four blocks in each 64.
    const __m512i low_index = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 17, 17, 34, 34, 51, 51, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m512i high_index = _mm512_castsi256_si512(
        _mm256_setr_epi16(0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 21, 21, 38, 38, 55, 55));
    const __m512i low = _mm512_permutex2var_epi16(load64(b), low_index, load64(b + 64));
    const __m512i high = _mm512_permutex2var_epi16(load64(b + 128), high_index, load64(b + 192));
    w.scale = _mm512_cvtph_ps(
        _mm256_blend_epi32(_mm512_castsi512_si256(low), _mm512_castsi512_si256(high), 0xF0));
    w.minimum = _mm512_setzero_ps();
    return w;
}

static inline avx512_weights unpack_q4_0(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        w.u[j] = pair_nibbles(b + 36 * j + 2, b + 36 * j + 20);
    }
    // 64 halves from the beginning hold all eight scales.
    const __m512i scales = _mm512_permutex2var_epi16(load64(b), pair_steps(9), load64(b + 64));
    w.scale = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Adds 16 where the bit of an element is set; the bits of two blocks are in the order of the bytes.
static inline __m512i add_fifths(__m512i u, const uint8_t* first, const uint8_t* second) {
    uint32_t low;
    uint32_t high;
    memcpy(&low, first, sizeof low);
    memcpy(&high, second, sizeof high);
    const __mmask64 bits = (__mmask64)high << 32 | low;
    return _mm512_mask_add_epi8(u, bits, u, _mm512_set1_epi8(16));
}

// The first words of eight blocks of five or six words, each twice. A block begins with two halves:
// the scale, and what is added to all numbers.
static inline __m512i block_words(const uint8_t* b, int words) {
    const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    const __m512i index = _mm512_mullo_epi32(twice, _mm512_set1_epi32(words));
    const __m512i first = _mm512_permutex2var_epi32(load64(b), index, load64(b + 64));
    // 5 * 7 and 6 * 6 lie behind the 32 words of these two.
    const __m512i last = load64(b + 32 * words - 64);
    const __m512i last_index = _mm512_sub_epi32(index, _mm512_set1_epi32(8 * words - 16));
    const __mmask16 behind = _mm512_cmpgt_epi32_mask(index, _mm512_set1_epi32(31));
    return _mm512_mask_permutexvar_epi32(first, behind, last_index, last);
}

static inline void unpack_affine(__m512i words, avx512_weights* w) {
    const __m256i addends = _mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16));
    w->scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words));
    w->minimum = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_cvtph_ps(addends));
}

static inline avx512_weights unpack_q4_1(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        w.u[j] = pair_nibbles(b + 40 * j + 4, b + 40 * j + 24);
    }
    unpack_affine(block_words(b, 5), &w);
    return w;
}

static inline avx512_weights unpack_q5_1(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const uint8_t* pair = b + 48 * j;
        w.u[j] = add_fifths(pair_nibbles(pair + 8, pair + 32), pair + 4, pair + 28);
    }
    unpack_affine(block_words(b, 6), &w);
    return w;
}

static inline avx512_weights unpack_q5_0(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const uint8_t* pair = b + 44 * j;
        w.u[j] = add_fifths(pair_nibbles(pair + 6, pair + 28), pair + 2, pair + 24);
    }
    w.scale = block_halves(b, 11);
    w.minimum = _mm512_setzero_ps();
    return w;
}

static inline void unpack_k_scales(const uint8_t* b, avx512_weights* w) {
    const __m128i packed = unpack_6bit(b + 4);
    w->scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b)), twice_as_floats(packed, 0));
    w->minimum = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 2)), twice_as_floats(packed, 8));
}

// 32 bytes as their low nibbles and their high nibbles.
static inline __m512i split_nibbles(const uint8_t* bytes) {
    const __m256i both = load32(bytes);
    return _mm512_and_si512(join(both, _mm256_srli_epi16(both, 4)), _mm512_set1_epi8(0x0F));
}

static inline avx512_weights unpack_q4_k(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        w.u[j] = split_nibbles(b + 16 + 32 * j);
    }
    unpack_k_scales(b, &w);
    return w;
}

static inline avx512_weights unpack_q5_k(const uint8_t* b) {
    const __m512i fifths = _mm512_broadcast_i64x4(load32(b + 16));
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const __m512i bits =
            join(_mm256_set1_epi8((char)(1 << (2 * j))), _mm256_set1_epi8((char)(2 << (2 * j))));
        const __m512i u = split_nibbles(b + 48 + 32 * j);
        w.u[j] =
            _mm512_mask_add_epi8(u, _mm512_test_epi8_mask(fifths, bits), u, _mm512_set1_epi8(16));
    }
    unpack_k_scales(b, &w);
    return w;
}

static inline avx512_weights unpack_q6_k(const uint8_t* b) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i high_bits = _mm512_set1_epi8(0x30);
    avx512_weights w;
    for (int n = 0; n < 2; n++) {
        const __m512i low = load64(b + 64 * n);
        const __m256i high = load32(b + 128 + 32 * n);
        const __m512i first = join(_mm256_slli_epi16(high, 4), _mm256_slli_epi16(high, 2));
        const __m512i second = join(high, _mm256_srli_epi16(high, 2));
        w.u[2 * n] =
            _mm512_or_si512(_mm512_and_si512(low, nibble), _mm512_and_si512(first, high_bits));
        w.u[2 * n + 1] = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low, 4), nibble),
                                         _mm512_and_si512(second, high_bits));
    }
    const __m128i scales = _mm_loadu_si128((const __m128i*)(const void*)(b + 192));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 208)),
                            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Runs i and i + 1 of 32 elements, of the four that have two bits in each of 32 bytes.
static inline __m512i two_bit_runs(const uint8_t* bytes, int i) {
    const __m512i both = _mm512_broadcast_i64x4(load32(bytes));
    const int low = 2 * i;
    const int high = 2 * i + 2;
    const __m512i shifts = _mm512_setr_epi64(low, low, low, low, high, high, high, high);
    return _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(3));
}

static inline avx512_weights unpack_q2_k(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        w.u[j] = two_bit_runs(b + 16 + j / 2 * 32, j % 2 * 2);
    }
    const __m512i packed = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)(const void*)b));
    const __m512 scales = _mm512_cvtepi32_ps(_mm512_and_si512(packed, _mm512_set1_epi32(0x0F)));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 80)), scales);
    w.minimum = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 82)),
                              _mm512_cvtepi32_ps(_mm512_srli_epi32(packed, 4)));
    return w;
}

// Sixteen 6-bit numbers in 12 bytes: nibbles of bytes 0 .. 7, upper bits in bytes 8 .. 11.
static inline __m128i unpack_q3_k_scales(const uint8_t* packed) {
    uint32_t words[3];
    memcpy(words, packed, sizeof words);
    const uint32_t nibble = 0x0F0F0F0Fu;
    const uint32_t two = 0x03030303u;
    return _mm_setr_epi32((int)((words[0] & nibble) | (words[2] & two) << 4),
                          (int)((words[1] & nibble) | (words[2] >> 2 & two) << 4),
                          (int)((words[0] >> 4 & nibble) | (words[2] >> 4 & two) << 4),
                          (int)((words[1] >> 4 & nibble) | (words[2] >> 6 & two) << 4));
}

static inline avx512_weights unpack_q3_k(const uint8_t* b) {
    const __m512i thirds = _mm512_broadcast_i64x4(load32(b));
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const __m512i bits =
            join(_mm256_set1_epi8((char)(1 << (2 * j))), _mm256_set1_epi8((char)(2 << (2 * j))));
        const __m512i u = two_bit_runs(b + 32 + j / 2 * 32, j % 2 * 2);
        w.u[j] =
            _mm512_mask_add_epi8(u, _mm512_test_epi8_mask(thirds, bits), u, _mm512_set1_epi8(4));
    }
    const __m512i scales =
        _mm512_sub_epi32(_mm512_cvtepu8_epi32(unpack_q3_k_scales(b + 96)), _mm512_set1_epi32(32));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b + 108)), _mm512_cvtepi32_ps(scales));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// What the codes in 64 bytes stand for, made unsigned.
static inline __m512i look_up(__m512i codes, const int8_t values[16], int offset) {
    const __m128i table = _mm_loadu_si128((const __m128i*)(const void*)values);
    const __m128i unsigned_table = _mm_add_epi8(table, _mm_set1_epi8((char)offset));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(unsigned_table), codes);
}

#define IQ4_OFFSET 128
#define FP4_OFFSET 12

static inline avx512_weights unpack_iq4_nl(const uint8_t* b) {
    avx512_weights w = unpack_q4_0(b); // the same layout
    for (int j = 0; j < 4; j++) {
        w.u[j] = look_up(w.u[j], iq4_values, IQ4_OFFSET);
    }
    return w;
}

static inline avx512_weights unpack_iq4_xs(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const uint8_t* codes = b + 8 + 32 * j;
        w.u[j] = look_up(pair_nibbles(codes, codes + 16), iq4_values, IQ4_OFFSET);
    }
    uint16_t high_scales;
    uint32_t low_scales;
    memcpy(&high_scales, b + 2, sizeof high_scales);
    memcpy(&low_scales, b + 4, sizeof low_scales);
    const __m512i shifts = _mm512_setr_epi32(0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
    const __m512i high = _mm512_srlv_epi32(_mm512_set1_epi32(high_scales), shifts);
    const __m512i low =
        _mm512_srlv_epi32(_mm512_set1_epi32((int)low_scales), _mm512_add_epi32(shifts, shifts));
    const __m512i scales =
        _mm512_or_si512(_mm512_and_si512(low, _mm512_set1_epi32(0x0F)),
                        _mm512_slli_epi32(_mm512_and_si512(high, _mm512_set1_epi32(3)), 4));
    w.scale = _mm512_mul_ps(_mm512_set1_ps(f16_at(b)),
                            _mm512_cvtepi32_ps(_mm512_sub_epi32(scales, _mm512_set1_epi32(32))));
    w.minimum = _mm512_setzero_ps();
    return w;
}

// Half of the powers of two with these exponents, as e8m0_half in tensor/dtype_values.h.
static inline __m512 e8m0_halves(__m512i exponents) {
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(exponents, one), 23);
    const __m512i small = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), exponents);
    const __mmask16 is_small = _mm512_cmple_epu32_mask(exponents, one);
    const __mmask16 is_nan = _mm512_cmpeq_epi32_mask(exponents, _mm512_set1_epi32(255));
    const __m512i bits = _mm512_mask_mov_epi32(normal, is_small, small);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, is_nan, _mm512_set1_epi32(0x7FC00000)));
}

static inline avx512_weights unpack_mxfp4(const uint8_t* b) {
    avx512_weights w;
    for (int j = 0; j < 4; j++) {
        const __m512i codes = pair_nibbles(b + 34 * j + 1, b + 34 * j + 18);
        w.u[j] = look_up(codes, fp4_values, FP4_OFFSET);
    }
    uint64_t exponents = 0;
    for (int i = 0; i < 8; i++) {
        exponents |= (uint64_t)b[17 * i] << (8 * i);
    }
    const __m128i twice = _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    w.scale = e8m0_halves(
        _mm512_cvtepu8_epi32(_mm_shuffle_epi8(_mm_cvtsi64_si128((long long)exponents), twice)));
    w.minimum = _mm512_setzero_ps();
    return w;
}

#endif
