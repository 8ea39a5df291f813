// Types whose blocks have 256 elements.
#include "tensor/dtype_decode.h"
#include "tensor/dtype_values.h"

#define BLOCK 256    // elements
#define SUB_BLOCKS 8 // of 32 elements

// The blocks as bytes, so that no padding and no alignment comes in. d and dmin are f16.
typedef struct q2_k_block {
    uint8_t scales[BLOCK / 16]; // of 16 elements: scale low, minimum high
    uint8_t quants[BLOCK / 4];  // 32 bytes hold 128 elements: bits 2s, 2s + 1 those of run s
    uint8_t d[2];
    uint8_t dmin[2];
} q2_k_block;

typedef struct q3_k_block {
    uint8_t third_bits[BLOCK / 8]; // bit s of byte l belongs to element l of run s
    uint8_t quants[BLOCK / 4];     // as in q2_k_block
    uint8_t scales[12];
    uint8_t d[2];
} q3_k_block;

typedef struct q4_k_block {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t quants[BLOCK / 2]; // 32 bytes hold sub-blocks 2i (low) and 2i + 1 (high)
} q4_k_block;

typedef struct q5_k_block {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t fifth_bits[32]; // bit s of byte l belongs to element l of sub-block s
    uint8_t quants[BLOCK / 2];
} q5_k_block;

typedef struct q6_k_block {
    uint8_t low_bits[BLOCK / 2];
    uint8_t high_bits[BLOCK / 4];
    int8_t scales[BLOCK / 16]; // one for 16 elements
    uint8_t d[2];
} q6_k_block;

typedef struct iq4_xs_block {
    uint8_t d[2];
    uint8_t high_scales[2]; // bits 2s and 2s + 1 belong to sub-block s
    uint8_t low_scales[SUB_BLOCKS / 2];
    uint8_t codes[BLOCK / 2]; // 16 bytes for each sub-block
} iq4_xs_block;

_Static_assert(sizeof(q2_k_block) == Q2_K_BYTES, "Q2_K");
_Static_assert(sizeof(q3_k_block) == Q3_K_BYTES, "Q3_K");
_Static_assert(sizeof(q4_k_block) == Q4_K_BYTES, "Q4_K");
_Static_assert(sizeof(q5_k_block) == Q5_K_BYTES, "Q5_K");
_Static_assert(sizeof(q6_k_block) == Q6_K_BYTES, "Q6_K");
_Static_assert(sizeof(iq4_xs_block) == IQ4_XS_BYTES, "IQ4_XS");

// 128 elements lie as four runs of 32, two bits each of the same 32 bytes; the scales change every
// 16 elements.
static void decode_q2_k_half(float d, float dmin, const uint8_t* restrict quants,
                             const uint8_t* restrict scales, float* restrict target) {
    for (int i = 0; i < 8; i++, target += 16) {
        const float scale = d * (float)(scales[i] & 0xF);
        const float minimum = dmin * (float)(scales[i] >> 4);
        const int shift = i / 2 * 2;
        for (int l = 0; l < 16; l++) {
            target[l] = scale * (float)((quants[i % 2 * 16 + l] >> shift) & 3) - minimum;
        }
    }
}

void dtype_decode_q2_k(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q2_k_block* blocks = (const q2_k_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const q2_k_block* block = &blocks[b];
        const float d = load_f16(block->d);
        const float dmin = load_f16(block->dmin);
        decode_q2_k_half(d, dmin, block->quants, block->scales, target);
        decode_q2_k_half(d, dmin, block->quants + 32, block->scales + 8, target + BLOCK / 2);
    }
}

// Sixteen 6-bit scales: byte j % 8 holds the low nibbles of scales j and j + 8, byte 8 + j % 4 the
// two upper bits of four.
static void unpack_q3_k_scales(float d, const uint8_t packed[12], float scales[16]) {
    for (int j = 0; j < 16; j++) {
        const int low = (packed[j % 8] >> (j / 8 * 4)) & 0xF;
        const int high = (packed[8 + j % 4] >> (j / 4 * 2)) & 3;
        scales[j] = d * (float)((low | high << 4) - 32);
    }
}

// As Q2_K without minima; where the third bit is not set, 4 is taken off.
void dtype_decode_q3_k(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q3_k_block* blocks = (const q3_k_block*)source;
    for (size_t b = 0; b < block_count; b++) {
        const q3_k_block* block = &blocks[b];
        float scales[16];
        unpack_q3_k_scales(load_f16(block->d), block->scales, scales);
        for (int run = 0; run < 8; run++, target += 32) {
            const uint8_t* quants = block->quants + run / 4 * 32;
            for (int l = 0; l < 32; l++) {
                const int third = (block->third_bits[l] >> run) & 1;
                const int q = ((quants[l] >> (run % 4 * 2)) & 3) | third << 2;
                target[l] = scales[2 * run + l / 16] * (float)(q - 4);
            }
        }
    }
}

// A sub-block stands for scale * q - minimum.
typedef struct sub_block {
    float scale;
    float minimum;
} sub_block;

// Unpacks eight 6-bit scales and eight 6-bit minima: the first four of each lie in the low six bits
// of bytes 0..3 and 4..7, the last four are split into a nibble in bytes 8..11 and the two upper
// bits of bytes 0..7.
static void unpack_sub_blocks(const uint8_t d[2], const uint8_t dmin[2], const uint8_t packed[12],
                              sub_block sub_blocks[SUB_BLOCKS]) {
    const float scale_unit = load_f16(d);
    const float minimum_unit = load_f16(dmin);
    for (int j = 0; j < SUB_BLOCKS / 2; j++) {
        const int last_scale = (packed[j + 8] & 0xF) | ((packed[j] >> 6) << 4);
        const int last_minimum = (packed[j + 8] >> 4) | ((packed[j + 4] >> 6) << 4);
        sub_blocks[j] = (sub_block){scale_unit * (float)(packed[j] & 63),
                                    minimum_unit * (float)(packed[j + 4] & 63)};
        sub_blocks[j + 4] =
            (sub_block){scale_unit * (float)last_scale, minimum_unit * (float)last_minimum};
    }
}

// Each 32 bytes of quants give 64 elements: the low nibbles one sub-block, the high ones the next.
void dtype_decode_q4_k(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q4_k_block* blocks = (const q4_k_block*)source;
    for (size_t b = 0; b < block_count; b++) {
        const q4_k_block* block = &blocks[b];
        sub_block sub_blocks[SUB_BLOCKS];
        unpack_sub_blocks(block->d, block->dmin, block->scales, sub_blocks);
        for (int i = 0; i < SUB_BLOCKS; i += 2, target += 64) {
            const sub_block low = sub_blocks[i];
            const sub_block high = sub_blocks[i + 1];
            const uint8_t* quants = block->quants + 16 * i;
            for (int l = 0; l < 32; l++) {
                target[l] = low.scale * (float)(quants[l] & 0xF) - low.minimum;
                target[l + 32] = high.scale * (float)(quants[l] >> 4) - high.minimum;
            }
        }
    }
}

// As Q4_K; bits i and i + 1 of fifth_bits[l] add 16 in sub-blocks i and i + 1.
void dtype_decode_q5_k(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q5_k_block* blocks = (const q5_k_block*)source;
    for (size_t b = 0; b < block_count; b++) {
        const q5_k_block* block = &blocks[b];
        sub_block sub_blocks[SUB_BLOCKS];
        unpack_sub_blocks(block->d, block->dmin, block->scales, sub_blocks);
        for (int i = 0; i < SUB_BLOCKS; i += 2, target += 64) {
            const sub_block low = sub_blocks[i];
            const sub_block high = sub_blocks[i + 1];
            const uint8_t* quants = block->quants + 16 * i;
            for (int l = 0; l < 32; l++) {
                const int fifths = block->fifth_bits[l] >> i;
                const int q_low = (quants[l] & 0xF) | ((fifths & 1) << 4);
                const int q_high = (quants[l] >> 4) | ((fifths & 2) << 3);
                target[l] = low.scale * (float)q_low - low.minimum;
                target[l + 32] = high.scale * (float)q_high - high.minimum;
            }
        }
    }
}

// 128 elements lie as four runs of 32; byte l of the low bits serves two runs, of the high bits
// four.
static void decode_q6_k_half(float d, const uint8_t* restrict low_bits,
                             const uint8_t* restrict high_bits, const int8_t* restrict scales,
                             float* restrict target) {
    for (int l = 0; l < 32; l++) {
        const int8_t* scale = scales + l / 16;
        const int low = low_bits[l];
        const int next = low_bits[l + 32];
        const int high = high_bits[l];
        const int q0 = ((low & 0xF) | ((high & 3) << 4)) - 32;
        const int q1 = ((next & 0xF) | (((high >> 2) & 3) << 4)) - 32;
        const int q2 = ((low >> 4) | (((high >> 4) & 3) << 4)) - 32;
        const int q3 = ((next >> 4) | ((high >> 6) << 4)) - 32;
        target[l] = d * (float)scale[0] * (float)q0;
        target[l + 32] = d * (float)scale[2] * (float)q1;
        target[l + 64] = d * (float)scale[4] * (float)q2;
        target[l + 96] = d * (float)scale[6] * (float)q3;
    }
}

void dtype_decode_q6_k(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q6_k_block* blocks = (const q6_k_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const q6_k_block* block = &blocks[b];
        const float d = load_f16(block->d);
        decode_q6_k_half(d, block->low_bits, block->high_bits, block->scales, target);
        decode_q6_k_half(d, block->low_bits + 64, block->high_bits + 32, block->scales + 8,
                         target + BLOCK / 2);
    }
}

void dtype_decode_iq4_xs(const uint8_t* restrict source, size_t block_count,
                         float* restrict target) {
    const iq4_xs_block* blocks = (const iq4_xs_block*)source;
    for (size_t b = 0; b < block_count; b++) {
        const iq4_xs_block* block = &blocks[b];
        const float d = load_f16(block->d);
        for (int s = 0; s < SUB_BLOCKS; s++, target += 32) {
            const int low = (block->low_scales[s / 2] >> (s % 2 * 4)) & 0xF;
            const int high = (load_u16(block->high_scales) >> (2 * s)) & 3;
            decode_codes(block->codes + 16 * s, iq4_values, d * (float)((low | high << 4) - 32),
                         target);
        }
    }
}
