// Few rows of x times weights of Q4_K and Q5_K, whose scales and minima are six bits each times two
// units of a block. Vector operations are what counts here, and permutations of two registers cost
// the most of them: x lies in the order of the bytes instead, and sums of 16 bits are multiplied
// with products of scales as integers.
//
// Of the 128 bytes of codes of a block each 32 hold an even group in their low nibbles and the odd
// one behind it in the high ones. Words of 64 bits of the first and the last 64 bytes take turns in
// two registers,
//
//     | 0 of group 0 | 0 of group 4 | 2 of 0 | 2 of 4 | 0 of 2 | 0 of 6 | 2 of 2 | 2 of 6 |
//
// and words 1 and 3 in the other one; x lies in the order of their low nibbles, then of their high
// ones. A lane then holds eight products of an even group, and eight of the odd one: each sum has
// 16 bits, both together are multiplied with two scales, and one conversion does for the chunk.
#include "backends/cpu/avx512/avx512_fetch.h"
#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_unpack.h"

#define ROWS 4         // of weights that share what they read of x
#define ROWS_OF_MANY 2 // the same with several rows of x, whose sums take the registers
#define SIDE_BY_SIDE 2 // of these, which hide what the others wait for

// The codes of a block: the two registers of even groups, then those of odd ones.
typedef void (*codes_fn)(const uint8_t* block, __m512i codes[4]);

typedef struct traits {
    codes_fn codes;
    int64_t block_bytes;
    int odd_shift; // moves sums of odd groups to the upper half of a lane
} traits;

// The sums of weight rows, of each with several rows of x.
typedef struct row_sums {
    __m512 of[ROWS * CPU_FEW_ROWS];
    __m256 minima[ROWS * CPU_FEW_ROWS];
} row_sums;

// Codes of odd groups stay where they are, as sixteen times their number.
AVX512_INLINE void q4_k_codes(const uint8_t* block, __m512i codes[4]) {
    const __m512i low = _mm512_set1_epi8(0x0F);
    const __m512i high = _mm512_set1_epi8((char)0xF0);
    const __m512i first = load_once(block + 16);
    const __m512i last = load_once(block + 80);
    const __m512i even_words = _mm512_unpacklo_epi64(first, last);
    const __m512i odd_words = _mm512_unpackhi_epi64(first, last);
    codes[0] = _mm512_and_si512(even_words, low);
    codes[1] = _mm512_and_si512(odd_words, low);
    codes[2] = _mm512_and_si512(even_words, high);
    codes[3] = _mm512_and_si512(odd_words, high);
}

// Bit i of each of 32 bytes belongs to group i.
AVX512_INLINE void q5_k_codes(const uint8_t* block, __m512i codes[4]) {
    const __m512i first = load_once(block + 48);
    const __m512i last = load_once(block + 112);
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i fifth = _mm512_set1_epi8(0x10);
    const __m512i turns[2] = {_mm512_setr_epi64(4, 0, 4, 0, 2, 62, 2, 62),
                              _mm512_setr_epi64(3, 63, 3, 63, 1, 61, 1, 61)};
    const __m512i bits = _mm512_broadcast_i64x4(load32(block + 16));
    const __m512i words[2] = {_mm512_unpacklo_epi64(first, last),
                              _mm512_unpackhi_epi64(first, last)};
    const __m512i word_bits[2] = {_mm512_unpacklo_epi64(bits, bits),
                                  _mm512_unpackhi_epi64(bits, bits)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const int odd = j / 2;
        const __m512i shifted = odd ? _mm512_srli_epi16(words[j % 2], 4) : words[j % 2];
        const __m512i turned = _mm512_rolv_epi64(word_bits[j % 2], turns[odd]);
        codes[j] = _mm512_ternarylogic_epi64(_mm512_and_si512(shifted, nibble), turned, fifth,
                                             0xF8); // a | (b & c)
    }
}

// The units of a block times those of a chunk of x, to be read from memory: a broadcast from there
// takes no unit that computes.
AVX512_INLINE void make_units(const uint8_t* block, const cpu_chunk* x, float units[4]) {
    const __m128 halves = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)(const void*)block));
    const __m128i of_x = _mm_loadl_epi64((const __m128i*)(const void*)x->integers.units);
    _mm_store_ps(units, _mm_mul_ps(halves, _mm_castsi128_ps(of_x)));
    __asm__("" : "+m"(units[0]), "+m"(units[1]));
}

AVX512_INLINE __m512i dot(__m512i first, const int8_t* x_first, __m512i last,
                          const int8_t* x_last) {
    const __m512i sums =
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_load_si512(x_first));
    return _mm512_dpbusd_epi32(sums, last, _mm512_load_si512(x_last));
}

// Adds the products of `rows` blocks, at most SIDE_BY_SIDE, with a chunk of x.
AVX512_INLINE void add_chunk(traits type, __m512i codes[SIDE_BY_SIDE][4],
                             const __m256i words[SIDE_BY_SIDE], const uint8_t* blocks,
                             int64_t byte_stride, int rows, const cpu_chunk* x, __m512* sums,
                             __m256* minima, int step) {
    // Two scales for each lane.
    const __m512i spread = _mm512_setr_epi32(0, 0, 4, 4, 0, 0, 4, 4, 1, 1, 5, 5, 1, 1, 5, 5);
    const __m256i factors = _mm256_load_si256((const __m256i*)(const void*)x->integers.factors);
    _Alignas(16) float units[SIDE_BY_SIDE][4];
    __m512i even[SIDE_BY_SIDE];
    __m512i odd[SIDE_BY_SIDE];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        odd[r] = dot(codes[r][2], x->q + 128, codes[r][3], x->q + 192);
        even[r] = dot(codes[r][0], x->q, codes[r][1], x->q + 64);
        make_units(blocks + r * byte_stride, x, units[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const __m512i shifted = _mm512_slli_epi32(odd[r], (unsigned)type.odd_shift);
        const __m512i both = _mm512_mask_blend_epi16(0xAAAAAAAA, even[r], shifted);
        const __m512i scales = _mm512_permutexvar_epi32(
            spread, _mm512_castsi256_si512(_mm256_mullo_epi16(words[r], factors)));
        const __m512 products = _mm512_cvtepi32_ps(_mm512_madd_epi16(both, scales));
        sums[r * step] = _mm512_fmadd_ps(products, _mm512_set1_ps(units[r][0]), sums[r * step]);
        const __m256 minimum = _mm256_cvtepi32_ps(_mm256_maskz_madd_epi16(0xCC, words[r], factors));
        minima[r * step] = _mm256_fnmadd_ps(minimum, _mm256_set1_ps(units[r][1]), minima[r * step]);
    }
}

// The same with chunks of `count` rows of x.
AVX512_INLINE void add_chunks(traits type, const uint8_t* blocks, int64_t byte_stride, int rows,
                              const cpu_chunk* x, int64_t stride, int count, __m512* sums,
                              __m256* minima) {
    __m512i codes[SIDE_BY_SIDE][4];
    __m256i words[SIDE_BY_SIDE]; // four scales, their minima, the other scales and theirs
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        type.codes(blocks + r * byte_stride, codes[r]);
        words[r] = _mm256_cvtepu8_epi16(unpack_k_bytes(blocks + r * byte_stride + 4));
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        add_chunk(type, codes, words, blocks, byte_stride, rows, x + i * stride, sums + i,
                  minima + i, count);
    }
}

// `rows` weight rows from row n on and `count` rows of x, whose sums stay in registers.
AVX512_INLINE void dot_rows(traits type, const cpu_weight_rows* weights, int64_t n, int rows,
                            int together, int64_t elements, const cpu_chunk* x, int64_t stride,
                            int count, float* results) {
    row_sums sums;
#pragma GCC unroll 8
    for (int i = 0; i < rows * count; i++) {
        sums.of[i] = _mm512_setzero_ps();
        sums.minima[i] = _mm256_setzero_ps();
    }
    const uint8_t* first = weights->first + n * weights->byte_stride;
    for (int64_t c = 0; c < elements / CPU_CHUNK; c++) {
        avx512_fetch_ahead(weights, n, rows, together, type.block_bytes, c);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r += SIDE_BY_SIDE) {
            add_chunks(type, first + c * type.block_bytes + r * weights->byte_stride,
                       weights->byte_stride, rows < SIDE_BY_SIDE ? rows : SIDE_BY_SIDE, x + c,
                       stride, count, sums.of + r * count, sums.minima + r * count);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows * count; i++) {
        results[n + i / count + i % count * CPU_RUN_COLUMNS] =
            _mm512_reduce_add_ps(_mm512_add_ps(sums.of[i], _mm512_zextps256_ps512(sums.minima[i])));
    }
}

AVX512_INLINE void dot_all(traits type, const cpu_weight_rows* weights, int64_t elements,
                           const cpu_chunk* x, int64_t stride, int count, float* results) {
    const int together = count == 1 ? ROWS : ROWS_OF_MANY;
    int64_t n = 0;
    for (; n + together <= weights->count; n += together) {
        dot_rows(type, weights, n, together, together, elements, x, stride, count, results);
    }
    for (; n < weights->count; n++) {
        dot_rows(type, weights, n, 1, together, elements, x, stride, count, results);
    }
}

// A constant number of rows keeps all sums in registers.
AVX512_INLINE void dot_any(traits type, const cpu_weight_rows* weights, int64_t elements,
                           const cpu_chunk* x, int64_t stride, int64_t count, float* results) {
    switch (count) {
    case 1:
        dot_all(type, weights, elements, x, stride, 1, results);
        break;
    case 2:
        dot_all(type, weights, elements, x, stride, 2, results);
        break;
    case 3:
        dot_all(type, weights, elements, x, stride, 3, results);
        break;
    default:
        dot_all(type, weights, elements, x, stride, 4, results);
    }
}

void avx512_dot_q4_k(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,
                     int64_t stride, int64_t count, float* sums) {
    dot_any((traits){q4_k_codes, 144, 12}, weights, elements, x, stride, count, sums);
}

void avx512_dot_q5_k(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,
                     int64_t stride, int64_t count, float* sums) {
    dot_any((traits){q5_k_codes, 176, 16}, weights, elements, x, stride, count, sums);
}
