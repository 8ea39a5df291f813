// Dot products of one weight row with few rows of x, for types where decoding waits for the core
// and not for the memory: what counts is instructions per byte. Integer sums are brought together
// before they become floats, so that a chunk takes one conversion and one scaling, and x is met in
// the order in which the nibbles of the weights lie in memory.
#include <string.h>

#include "backends/cpu/avx512/avx512_products.h"
#include "backends/cpu/avx512/avx512_vector.h"

#define Q4_0_CHUNK_BYTES 144
#define Q4_0_BLOCK_BYTES 18
#define Q4_K_BLOCK_BYTES 144

AVX512_INLINE __m512i load64(const void* bytes) {
    return _mm512_loadu_si512(bytes);
}

// Keeps what was loaded in a register: compilers would rather load it again for each use, and loads
// across cache lines are what this code runs out of.
AVX512_INLINE __m512i load_once(const void* bytes) {
    __m512i loaded = load64(bytes);
    __asm__("" : "+v"(loaded));
    return loaded;
}

// Parts of both orders are whole 16 or 32 bytes of q.
void avx512_arrange(cpu_chunk* chunk) {
    for (int k = 0; k < 2; k++) {
        const __m512i first = _mm512_load_si512(chunk->q + 128 * k);
        const __m512i second = _mm512_load_si512(chunk->q + 128 * k + 64);
        int8_t* halves = chunk->halves + 128 * k;
        int8_t* pairs = chunk->pairs + 128 * k;
        _mm512_store_si512(halves, _mm512_shuffle_i64x2(first, second, 0x88));
        _mm512_store_si512(halves + 64, _mm512_shuffle_i64x2(first, second, 0xDD));
        _mm512_store_si512(pairs, _mm512_shuffle_i64x2(first, second, 0x44));
        _mm512_store_si512(pairs + 64, _mm512_shuffle_i64x2(first, second, 0xEE));
    }
}

// Lanes in fours of one group each, of groups 0 .. 3 and 4 .. 7, become two lanes for each group.
AVX512_INLINE __m512i add_lane_pairs(__m512i low, __m512i high) {
    const __m512i first =
        _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
    return _mm512_add_epi32(_mm512_permutex2var_epi32(low, first, high),
                            _mm512_permutex2var_epi32(low, second, high));
}

// The words of four blocks of Q4_0, of 9 words each: the scale, then the nibbles.
#define BLOCK_WORDS(first)                                                                         \
    (first) + 1, (first) + 2, (first) + 3, (first) + 4, (first) + 5, (first) + 6, (first) + 7,     \
        (first) + 8

// Of blocks 0 .. 3, from the first byte of a chunk on.
_Alignas(64) static const uint16_t first_words[32] = {BLOCK_WORDS(0), BLOCK_WORDS(9),
                                                      BLOCK_WORDS(18), BLOCK_WORDS(27)};

// Of blocks 4 .. 7 in two parts: bytes 64 .. 127 of a chunk are words 0 .. 31, bytes 80 .. 143 are
// words 32 .. 63. Block 4 begins at byte 72, block 7 at byte 126.
_Alignas(64) static const uint16_t last_words[32] = {BLOCK_WORDS(4), BLOCK_WORDS(13),
                                                     BLOCK_WORDS(22), BLOCK_WORDS(55)};

// Each scale twice.
_Alignas(64) static const uint16_t scale_words[32] = {0,  0,  9,  9,  18, 18, 27, 27,
                                                      36, 36, 45, 45, 54, 54, 63, 63};

// A chunk of Q4_0: nibbles of blocks 0 .. 3 and 4 .. 7, and a scale for every two lanes.
typedef struct q4_0_chunk {
    __m512i low[2], high[2];
    __m512 scale;
} q4_0_chunk;

AVX512_INLINE q4_0_chunk unpack_q4_0(const uint8_t* bytes) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    const __m512i a = load_once(bytes);
    const __m512i b = load_once(bytes + 64);
    const __m512i c = load64(bytes + Q4_0_CHUNK_BYTES - 64);
    const __m512i first = _mm512_permutex2var_epi16(a, _mm512_load_si512(first_words), b);
    const __m512i last = _mm512_permutex2var_epi16(b, _mm512_load_si512(last_words), c);
    q4_0_chunk w;
    w.low[0] = _mm512_and_si512(first, nibble);
    w.low[1] = _mm512_and_si512(last, nibble);
    w.high[0] = _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble);
    w.high[1] = _mm512_and_si512(_mm512_srli_epi16(last, 4), nibble);
    const __m512i scales = _mm512_permutex2var_epi16(a, _mm512_load_si512(scale_words), b);
    w.scale = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
    return w;
}

// Weights are scale * (u - 8).
AVX512_INLINE __m512 add_q4_0(const q4_0_chunk* w, const cpu_chunk* x, __m512 sum) {
    __m512i dots[2];
    for (int k = 0; k < 2; k++) {
        const int8_t* q = x->halves + 128 * k;
        dots[k] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w->low[k], _mm512_load_si512(q));
        dots[k] = _mm512_dpbusd_epi32(dots[k], w->high[k], _mm512_load_si512(q + 64));
    }
    const __m512 dot = _mm512_cvtepi32_ps(add_lane_pairs(dots[0], dots[1]));
    const __m512 offset = _mm512_mul_ps(_mm512_set1_ps(8.0f), _mm512_load_ps(x->d_sum));
    return _mm512_fmadd_ps(w->scale, _mm512_fmsub_ps(dot, _mm512_load_ps(x->d), offset), sum);
}

// The last chunk of a row may have fewer blocks: zeros, with the scale 0, fill it up.
AVX512_INLINE void dot_rows_q4_0(const uint8_t* weights, int64_t elements, const cpu_chunk* x,
                                 int64_t stride, int count, float* results) {
    __m512 sums[CPU_FEW_ROWS];
    for (int i = 0; i < count; i++) {
        sums[i] = _mm512_setzero_ps();
    }
    int64_t c = 0;
    for (; c < elements / CPU_CHUNK; c++) {
        const q4_0_chunk w = unpack_q4_0(weights + c * Q4_0_CHUNK_BYTES);
        for (int i = 0; i < count; i++) {
            sums[i] = add_q4_0(&w, x + i * stride + c, sums[i]);
        }
    }
    if (c * CPU_CHUNK < elements) {
        uint8_t copy[Q4_0_CHUNK_BYTES] = {0};
        memcpy(copy, weights + c * Q4_0_CHUNK_BYTES,
               (size_t)(elements % CPU_CHUNK / 32 * Q4_0_BLOCK_BYTES));
        const q4_0_chunk w = unpack_q4_0(copy);
        for (int i = 0; i < count; i++) {
            sums[i] = add_q4_0(&w, x + i * stride + c, sums[i]);
        }
    }
    for (int i = 0; i < count; i++) {
        results[i] = _mm512_reduce_add_ps(sums[i]);
    }
}

// A block of Q4_K: nibbles of groups 0 and 2, 1 and 3, 4 and 6, 5 and 7.
typedef struct q4_k_block {
    __m512i u[4];
    __m512 scale, minimum; // two lanes for each group
} q4_k_block;

// Eight 6-bit scales, then eight 6-bit minima, as bytes. The first four of each lie in the low six
// bits of a byte; the others have four bits in the last four bytes and two above the first ones.
AVX512_INLINE __m128i unpack_6bit(const uint8_t* block) {
    const __m128i bytes = _mm_loadu_si128((const __m128i*)(const void*)block);
    const __m128i low = _mm_shuffle_epi8(
        bytes, _mm_setr_epi8(4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
    const __m128i high = _mm_shuffle_epi8(
        bytes, _mm_setr_epi8(-1, -1, -1, -1, 4, 5, 6, 7, -1, -1, -1, -1, 8, 9, 10, 11));
    const __m128i masks = _mm_setr_epi32(0x3F3F3F3F, 0x0F0F0F0F, 0x3F3F3F3F, 0x0F0F0F0F);
    return _mm_or_si128(_mm_and_si128(_mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 0, 4)), masks),
                        _mm_and_si128(_mm_srli_epi32(high, 2), _mm_set1_epi8(0x30)));
}

// Bytes `begin` .. begin + 7, each twice, times a half.
AVX512_INLINE __m512 scaled_bytes(__m128i bytes, int begin, const uint8_t* half) {
    const __m128i index = _mm_add_epi8(
        _mm_setr_epi8(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7), _mm_set1_epi8((char)begin));
    uint16_t scale;
    memcpy(&scale, half, sizeof scale);
    return _mm512_mul_ps(_mm512_set1_ps(_cvtsh_ss(scale)),
                         _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_shuffle_epi8(bytes, index))));
}

AVX512_INLINE q4_k_block unpack_q4_k(const uint8_t* block) {
    const __m512i nibble = _mm512_set1_epi8(0x0F);
    q4_k_block w;
    for (int k = 0; k < 2; k++) {
        const __m512i bytes = load_once(block + 16 + 64 * k);
        w.u[2 * k] = _mm512_and_si512(bytes, nibble);
        w.u[2 * k + 1] = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
    }
    const __m128i packed = unpack_6bit(block);
    w.scale = scaled_bytes(packed, 0, block);
    w.minimum = scaled_bytes(packed, 8, block + 2);
    return w;
}

// Eight lanes of one group each, of a and c and of b and d, become four: a, b, c, d.
AVX512_INLINE __m512i add_lane_fours(__m512i a_c, __m512i b_d) {
    const __m512i first =
        _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(4));
    return _mm512_add_epi32(_mm512_permutex2var_epi32(a_c, first, b_d),
                            _mm512_permutex2var_epi32(a_c, second, b_d));
}

// For one row of x alone: more rows are better off with lanes that wait for the end.
void avx512_dot_q4_k(const uint8_t* weights, int64_t elements, const cpu_chunk* x, float* sum) {
    __m512 products = _mm512_setzero_ps();
    __m512 minima = _mm512_setzero_ps();
    for (int64_t c = 0; c < elements / CPU_CHUNK; c++) {
        const q4_k_block w = unpack_q4_k(weights + c * Q4_K_BLOCK_BYTES);
        __m512i dots[4];
        for (int k = 0; k < 4; k++) {
            dots[k] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.u[k],
                                          _mm512_load_si512(x[c].pairs + 64 * k));
        }
        const __m512i dot =
            add_lane_pairs(add_lane_fours(dots[0], dots[1]), add_lane_fours(dots[2], dots[3]));
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), _mm512_load_ps(x[c].d));
        products = _mm512_fmadd_ps(w.scale, scaled, products);
        minima = _mm512_fmadd_ps(w.minimum, _mm512_load_ps(x[c].d_sum), minima);
    }
    *sum = _mm512_reduce_add_ps(_mm512_sub_ps(products, minima));
}

// A constant number of rows keeps all sums in registers.
void avx512_dot_q4_0(const uint8_t* weights, int64_t elements, const cpu_chunk* x, int64_t stride,
                     int64_t count, float* sums) {
    switch (count) {
    case 1:
        dot_rows_q4_0(weights, elements, x, stride, 1, sums);
        break;
    case 2:
        dot_rows_q4_0(weights, elements, x, stride, 2, sums);
        break;
    case 3:
        dot_rows_q4_0(weights, elements, x, stride, 3, sums);
        break;
    default:
        dot_rows_q4_0(weights, elements, x, stride, 4, sums);
    }
}
