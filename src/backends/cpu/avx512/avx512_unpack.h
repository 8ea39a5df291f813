// Blocks of the quantised types as bytes in registers: a chunk of 256 weights in four registers of
// 64, and 16 scales, one for each 16 of them. Groups of 32 have the same scale twice.
//
// The bytes of a group of 32 are spread over the four registers, eight in each:
//
//     u[j] = | group 0, 8 j .. 8 j + 7 | group 1, 8 j .. 8 j + 7 | ... | group 7, 8 j .. 8 j + 7 |
//
// Products with all four, x lying in the same order, then add up in the same two lanes, and one
// conversion and one scaling do for the chunk. The two files below have one function for each type;
// the layouts of the blocks are those of the formats (see tensor/dtype_decode.h, which is the
// definition that these are tested against). No function reads outside the blocks that it is given.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_UNPACK_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "backends/cpu/avx512/avx512_vector.h"
#include "tensor/dtype_values.h"

// Stands for scale * (u - offset) - minimum, with the offset of the type.
typedef struct avx512_weights {
    __m512i u[4];
    __m512 scale;
    __m512 minimum; // only of types that have one
} avx512_weights;

AVX512_INLINE float f16_at(const uint8_t* bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return _cvtsh_ss(half);
}

AVX512_INLINE __m512i load64(const uint8_t* bytes) {
    return _mm512_loadu_si512(bytes);
}

// Keeps what was loaded in a register: compilers would rather load it again for each use, and loads
// across cache lines are what decoding runs out of.
AVX512_INLINE __m512i load_once(const uint8_t* bytes) {
    __m512i loaded = load64(bytes);
    __asm__("" : "+v"(loaded));
    return loaded;
}

AVX512_INLINE __m256i load32(const uint8_t* bytes) {
    return _mm256_loadu_si256((const __m256i*)(const void*)bytes);
}

AVX512_INLINE __m128i load16(const uint8_t* bytes) {
    return _mm_loadu_si128((const __m128i*)(const void*)bytes);
}

// Eight numbers, each twice.
AVX512_INLINE __m512i twice_epi32(__m256i numbers) {
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_epi32(index, _mm512_castsi256_si512(numbers));
}

// The sixteen bytes of 4-bit codes of eight groups, the first and the last eight bytes apart, as
// four registers: byte i holds elements i (low) and i + 16 (high) of its group.
AVX512_INLINE void split_nibbles(__m512i first, __m512i last, __m512i u[4]) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    u[0] = _mm512_and_si512(first, nibble);
    u[1] = _mm512_and_si512(last, nibble);
    u[2] = _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble);
    u[3] = _mm512_and_si512(_mm512_srli_epi16(last, 4), nibble);
}

// What codes stand for, made unsigned.
AVX512_INLINE void look_up(const int8_t values[16], int offset, __m512i u[4]) {
    const __m128i table = _mm_loadu_si128((const __m128i*)(const void*)values);
    const __m128i unsigned_table = _mm_add_epi8(table, _mm_set1_epi8((char)offset));
    for (int j = 0; j < 4; j++) {
        u[j] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(unsigned_table), u[j]);
    }
}

#define IQ4_OFFSET 128
#define FP4_OFFSET 12

#include "backends/cpu/avx512/avx512_unpack_256.h"
#include "backends/cpu/avx512/avx512_unpack_32.h"

#endif
