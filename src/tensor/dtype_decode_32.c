// Types whose blocks have 32 elements.
#include "tensor/dtype_decode.h"
#include "tensor/dtype_values.h"

#define BLOCK 32 // elements

// The blocks as bytes, so that no padding and no alignment comes in. d and minimum are f16.
typedef struct q8_0_block {
    uint8_t d[2];
    int8_t quants[BLOCK];
} q8_0_block;

typedef struct q4_0_block {
    uint8_t d[2];
    uint8_t quants[BLOCK / 2]; // byte j: element j low, element j + 16 high
} q4_0_block;

typedef struct q4_1_block {
    uint8_t d[2];
    uint8_t minimum[2];
    uint8_t quants[BLOCK / 2];
} q4_1_block;

typedef struct q5_0_block {
    uint8_t d[2];
    uint8_t fifth_bits[4]; // bit j belongs to element j
    uint8_t quants[BLOCK / 2];
} q5_0_block;

typedef struct q5_1_block {
    uint8_t d[2];
    uint8_t minimum[2];
    uint8_t fifth_bits[4];
    uint8_t quants[BLOCK / 2];
} q5_1_block;

typedef struct iq4_nl_block {
    uint8_t d[2];
    uint8_t codes[BLOCK / 2];
} iq4_nl_block;

typedef struct mxfp4_block {
    uint8_t exponent; // E8M0
    uint8_t codes[BLOCK / 2];
} mxfp4_block;

_Static_assert(sizeof(q8_0_block) == Q8_0_BYTES, "Q8_0");
_Static_assert(sizeof(q4_0_block) == Q4_0_BYTES, "Q4_0");
_Static_assert(sizeof(q4_1_block) == Q4_1_BYTES, "Q4_1");
_Static_assert(sizeof(q5_0_block) == Q5_0_BYTES, "Q5_0");
_Static_assert(sizeof(q5_1_block) == Q5_1_BYTES, "Q5_1");
_Static_assert(sizeof(iq4_nl_block) == IQ4_NL_BYTES, "IQ4_NL");
_Static_assert(sizeof(mxfp4_block) == MXFP4_BYTES, "MXFP4");

void dtype_decode_q8_0(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q8_0_block* blocks = (const q8_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const float d = load_f16(blocks[b].d);
        for (int j = 0; j < BLOCK; j++) {
            target[j] = d * (float)blocks[b].quants[j];
        }
    }
}

void dtype_decode_q4_0(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q4_0_block* blocks = (const q4_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const float d = load_f16(blocks[b].d);
        for (int j = 0; j < BLOCK / 2; j++) {
            const int pair = blocks[b].quants[j];
            target[j] = d * (float)((pair & 0xF) - 8);
            target[j + BLOCK / 2] = d * (float)((pair >> 4) - 8);
        }
    }
}

void dtype_decode_q4_1(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q4_1_block* blocks = (const q4_1_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const float d = load_f16(blocks[b].d);
        const float minimum = load_f16(blocks[b].minimum);
        for (int j = 0; j < BLOCK / 2; j++) {
            const int pair = blocks[b].quants[j];
            target[j] = d * (float)(pair & 0xF) + minimum;
            target[j + BLOCK / 2] = d * (float)(pair >> 4) + minimum;
        }
    }
}

// The 32 fifth bits are taken as two halves of 16, one for each run of nibbles.
static inline void unpack_5_bits(const uint8_t fifth_bits[4], const uint8_t* restrict quants,
                                 float* restrict numbers) {
    const int low_fifths = load_u16(fifth_bits);
    const int high_fifths = load_u16(fifth_bits + 2);
    for (int j = 0; j < BLOCK / 2; j++) {
        const int pair = quants[j];
        numbers[j] = (float)((pair & 0xF) | (((low_fifths >> j) & 1) << 4));
        numbers[j + BLOCK / 2] = (float)((pair >> 4) | (((high_fifths >> j) & 1) << 4));
    }
}

void dtype_decode_q5_0(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q5_0_block* blocks = (const q5_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const float d = load_f16(blocks[b].d);
        unpack_5_bits(blocks[b].fifth_bits, blocks[b].quants, target);
        for (int j = 0; j < BLOCK; j++) {
            target[j] = d * (target[j] - 16.0f);
        }
    }
}

void dtype_decode_q5_1(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    const q5_1_block* blocks = (const q5_1_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        const float d = load_f16(blocks[b].d);
        const float minimum = load_f16(blocks[b].minimum);
        unpack_5_bits(blocks[b].fifth_bits, blocks[b].quants, target);
        for (int j = 0; j < BLOCK; j++) {
            target[j] = d * target[j] + minimum;
        }
    }
}

void dtype_decode_iq4_nl(const uint8_t* restrict source, size_t block_count,
                         float* restrict target) {
    const iq4_nl_block* blocks = (const iq4_nl_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        decode_codes(blocks[b].codes, iq4_values, load_f16(blocks[b].d), target);
    }
}

void dtype_decode_mxfp4(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    const mxfp4_block* blocks = (const mxfp4_block*)source;
    for (size_t b = 0; b < block_count; b++, target += BLOCK) {
        decode_codes(blocks[b].codes, fp4_values, e8m0_half(blocks[b].exponent), target);
    }
}
