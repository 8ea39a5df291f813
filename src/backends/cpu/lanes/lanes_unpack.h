// Blocks of the quantised types as bytes: part of lanes_products.h. A type is two functions, over a
// chunk of 256 weights: one gives bytes 32 j .. 32 j + 31, the other the scales and minima, one for
// each 16 weights. Groups of 32 have the same twice.
//
// The layouts are those of the formats (see tensor/dtype_decode.h, which is the definition that
// these are tested against). No function reads outside the blocks that it is given.
#include "backends/cpu/products/products.h"
#include "tensor/dtype_values.h"

#define PARTS (CPU_CHUNK / 32) // of a chunk

typedef struct chunk_scales {
    lanes_floats scale[2];
    lanes_floats minimum[2]; // only of types that have one
} chunk_scales;

// The scales of eight blocks that begin with one half each.
LANES_INLINE void block_scales(const uint8_t* b, int block_bytes, chunk_scales* scales) {
    uint16_t halves[8];
    for (int i = 0; i < 8; i++) {
        memcpy(&halves[i], b + i * block_bytes, sizeof halves[i]);
    }
    lanes_twice(lanes_from_f16(halves), scales->scale);
}

LANES_INLINE lanes_bytes bytes_q8_0(const uint8_t* b, int j) {
    return lanes_load(b + 34 * j + 2);
}

LANES_INLINE void scales_q8_0(const uint8_t* b, chunk_scales* scales) {
    block_scales(b, 34, scales);
}

LANES_INLINE lanes_bytes bytes_q4_0(const uint8_t* b, int j) {
    return lanes_nibbles(b + 18 * j + 2);
}

LANES_INLINE void scales_q4_0(const uint8_t* b, chunk_scales* scales) {
    block_scales(b, 18, scales);
}

LANES_INLINE lanes_bytes bytes_q5_0(const uint8_t* b, int j) {
    return lanes_or(lanes_nibbles(b + 22 * j + 6), lanes_where_bits(b + 22 * j + 2, 0x10));
}

LANES_INLINE void scales_q5_0(const uint8_t* b, chunk_scales* scales) {
    block_scales(b, 22, scales);
}

// Blocks that begin with two halves: the scale, and what is added to all numbers.
LANES_INLINE void affine_scales(const uint8_t* b, int block_bytes, chunk_scales* scales) {
    block_scales(b, block_bytes, scales);
    chunk_scales addends;
    block_scales(b + 2, block_bytes, &addends);
    for (int h = 0; h < 2; h++) {
        scales->minimum[h] = lanes_mul(addends.scale[h], lanes_float(-1.0f));
    }
}

LANES_INLINE lanes_bytes bytes_q4_1(const uint8_t* b, int j) {
    return lanes_nibbles(b + 20 * j + 4);
}

LANES_INLINE void scales_q4_1(const uint8_t* b, chunk_scales* scales) {
    affine_scales(b, 20, scales);
}

LANES_INLINE lanes_bytes bytes_q5_1(const uint8_t* b, int j) {
    return lanes_or(lanes_nibbles(b + 24 * j + 8), lanes_where_bits(b + 24 * j + 4, 0x10));
}

LANES_INLINE void scales_q5_1(const uint8_t* b, chunk_scales* scales) {
    affine_scales(b, 24, scales);
}

// Part j is one of the four that have two bits in each of 32 bytes.
LANES_INLINE lanes_bytes bytes_q2_k(const uint8_t* b, int j) {
    return lanes_down(lanes_load(b + 16 + j / 4 * 32), j % 4 * 2, 3);
}

LANES_INLINE void scales_q2_k(const uint8_t* b, chunk_scales* scales) {
    uint64_t packed[2];
    memcpy(packed, b, sizeof packed);
    for (int h = 0; h < 2; h++) {
        const uint64_t nibble = UINT64_C(0x0F0F0F0F0F0F0F0F);
        const uint64_t low = packed[h] & nibble;
        const uint64_t high = packed[h] >> 4 & nibble;
        scales->scale[h] = lanes_mul(lanes_float(lanes_half(b + 80)), lanes_from_u8(&low));
        scales->minimum[h] = lanes_mul(lanes_float(lanes_half(b + 82)), lanes_from_u8(&high));
    }
}

LANES_INLINE lanes_bytes bytes_q3_k(const uint8_t* b, int j) {
    const lanes_bytes low = lanes_down(lanes_load(b + 32 + j / 4 * 32), j % 4 * 2, 3);
    return lanes_or(low, lanes_where(lanes_load(b), (uint8_t)(1u << j), 4));
}

// Sixteen 6-bit numbers in 12 bytes: nibbles of bytes 0 .. 7, upper bits in bytes 8 .. 11.
LANES_INLINE void scales_q3_k(const uint8_t* b, chunk_scales* scales) {
    uint32_t words[3];
    memcpy(words, b + 96, sizeof words);
    const uint32_t nibble = 0x0F0F0F0Fu;
    const uint32_t two = 0x03030303u;
    const uint32_t numbers[4] = {
        (words[0] & nibble) | (words[2] & two) << 4,
        (words[1] & nibble) | (words[2] >> 2 & two) << 4,
        (words[0] >> 4 & nibble) | (words[2] >> 4 & two) << 4,
        (words[1] >> 4 & nibble) | (words[2] >> 6 & two) << 4,
    };
    for (int h = 0; h < 2; h++) {
        const lanes_floats signed_scales =
            lanes_add(lanes_from_u8(numbers + 2 * h), lanes_float(-32.0f));
        scales->scale[h] = lanes_mul(lanes_float(lanes_half(b + 108)), signed_scales);
    }
}

// Two halves, then eight 6-bit scales and eight 6-bit minima in 12 bytes.
LANES_INLINE void k_scales(const uint8_t* b, chunk_scales* scales) {
    uint32_t words[3];
    memcpy(words, b + 4, sizeof words);
    const uint32_t low = 0x3F3F3F3Fu;
    const uint32_t nibble = 0x0F0F0F0Fu;
    const uint32_t two = 0x03030303u;
    const uint32_t numbers[4] = {
        words[0] & low,
        (words[2] & nibble) | (words[0] >> 6 & two) << 4,
        words[1] & low,
        (words[2] >> 4 & nibble) | (words[1] >> 6 & two) << 4,
    };
    lanes_twice(lanes_mul(lanes_float(lanes_half(b)), lanes_from_u8(numbers)), scales->scale);
    lanes_twice(lanes_mul(lanes_float(lanes_half(b + 2)), lanes_from_u8(numbers + 2)),
                scales->minimum);
}

LANES_INLINE lanes_bytes bytes_q4_k(const uint8_t* b, int j) {
    return lanes_down(lanes_load(b + 16 + j / 2 * 32), j % 2 * 4, 0x0F);
}

LANES_INLINE void scales_q4_k(const uint8_t* b, chunk_scales* scales) {
    k_scales(b, scales);
}

LANES_INLINE lanes_bytes bytes_q5_k(const uint8_t* b, int j) {
    const lanes_bytes low = lanes_down(lanes_load(b + 48 + j / 2 * 32), j % 2 * 4, 0x0F);
    return lanes_or(low, lanes_where(lanes_load(b + 16), (uint8_t)(1u << j), 0x10));
}

LANES_INLINE void scales_q5_k(const uint8_t* b, chunk_scales* scales) {
    k_scales(b, scales);
}

// Each half of the block: 64 bytes of nibbles, and elsewhere 32 bytes of four pairs of bits.
LANES_INLINE lanes_bytes bytes_q6_k(const uint8_t* b, int j) {
    const int half = j / 4;
    const int quarter = j % 4;
    const lanes_bytes low =
        lanes_down(lanes_load(b + 64 * half + 32 * (quarter % 2)), quarter / 2 * 4, 0x0F);
    const lanes_bytes pairs = lanes_load(b + 128 + 32 * half);
    return lanes_or(low, quarter < 2 ? lanes_up(pairs, 4 - 2 * quarter, 0x30)
                                     : lanes_down(pairs, 2 * quarter - 4, 0x30));
}

LANES_INLINE void scales_q6_k(const uint8_t* b, chunk_scales* scales) {
    const lanes_floats d = lanes_float(lanes_half(b + 208));
    scales->scale[0] = lanes_mul(d, lanes_from_i8(b + 192));
    scales->scale[1] = lanes_mul(d, lanes_from_i8(b + 200));
}

LANES_INLINE lanes_bytes bytes_iq4_nl(const uint8_t* b, int j) {
    return lanes_look_up(lanes_nibbles(b + 18 * j + 2), iq4_values, 0);
}

LANES_INLINE void scales_iq4_nl(const uint8_t* b, chunk_scales* scales) {
    block_scales(b, 18, scales);
}

LANES_INLINE lanes_bytes bytes_iq4_xs(const uint8_t* b, int j) {
    return lanes_look_up(lanes_nibbles(b + 8 + 16 * j), iq4_values, 0);
}

LANES_INLINE void scales_iq4_xs(const uint8_t* b, chunk_scales* scales) {
    uint16_t high;
    uint32_t low;
    memcpy(&high, b + 2, sizeof high);
    memcpy(&low, b + 4, sizeof low);
    int8_t numbers[PARTS];
    for (int j = 0; j < PARTS; j++) {
        const uint32_t upper = (uint32_t)high >> (2 * j) & 3u;
        numbers[j] = (int8_t)((int)((low >> (4 * j) & 0x0F) | upper << 4) - 32);
    }
    lanes_twice(lanes_mul(lanes_float(lanes_half(b)), lanes_from_i8(numbers)), scales->scale);
}

// The values are made unsigned, so that their products need less room.
#define FP4_OFFSET 12

LANES_INLINE lanes_bytes bytes_mxfp4(const uint8_t* b, int j) {
    return lanes_look_up(lanes_nibbles(b + 17 * j + 1), fp4_values, FP4_OFFSET);
}

LANES_INLINE void scales_mxfp4(const uint8_t* b, chunk_scales* scales) {
    float numbers[PARTS];
    for (int j = 0; j < PARTS; j++) {
        numbers[j] = e8m0_half(b[17 * j]);
    }
    lanes_twice(lanes_load_floats(numbers), scales->scale);
}
