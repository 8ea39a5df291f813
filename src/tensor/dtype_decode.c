#include <weir/dtype.h>

#include "tensor/half.h"

#include <stddef.h>

// The formats are little-endian, and so are the loads below.
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "weir needs a little-endian host");

// Decodes `block_count` blocks; alignment of the source is never relied on.
typedef void (*decode_fn)(const uint8_t* restrict source, size_t block_count,
                          float* restrict target);

enum {
    SMALL_BLOCK = 32,  // elements of Q8_0, Q4_0, Q5_0
    SUPER_BLOCK = 256, // elements of the K types
    SUB_BLOCKS = 8,    // of 32 elements, in Q4_K and Q5_K
};

// The blocks as bytes, so that no padding and no alignment comes in. d, dmin are f16.
typedef struct q8_0_block {
    uint8_t d[2];
    int8_t quants[SMALL_BLOCK];
} q8_0_block;

typedef struct q4_0_block {
    uint8_t d[2];
    uint8_t quants[SMALL_BLOCK / 2]; // byte j: element j low, element j + 16 high
} q4_0_block;

typedef struct q5_0_block {
    uint8_t d[2];
    uint8_t fifth_bits[4]; // bit j belongs to element j
    uint8_t quants[SMALL_BLOCK / 2];
} q5_0_block;

typedef struct q4_k_block {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t quants[SUPER_BLOCK / 2]; // 32 bytes hold sub-blocks 2i (low) and 2i + 1 (high)
} q4_k_block;

typedef struct q5_k_block {
    uint8_t d[2];
    uint8_t dmin[2];
    uint8_t scales[12];
    uint8_t fifth_bits[32]; // bit s of byte l belongs to element l of sub-block s
    uint8_t quants[SUPER_BLOCK / 2];
} q5_k_block;

typedef struct q6_k_block {
    uint8_t low_bits[SUPER_BLOCK / 2];
    uint8_t high_bits[SUPER_BLOCK / 4];
    int8_t scales[SUPER_BLOCK / 16]; // one for 16 elements
    uint8_t d[2];
} q6_k_block;

#define CHECK_BLOCK(name, elements, bytes, alignment, gguf) name##_BYTES = (bytes),
enum { WEIR_DTYPE_LIST(CHECK_BLOCK) };
#undef CHECK_BLOCK
_Static_assert(sizeof(q8_0_block) == Q8_0_BYTES, "Q8_0");
_Static_assert(sizeof(q4_0_block) == Q4_0_BYTES, "Q4_0");
_Static_assert(sizeof(q5_0_block) == Q5_0_BYTES, "Q5_0");
_Static_assert(sizeof(q4_k_block) == Q4_K_BYTES, "Q4_K");
_Static_assert(sizeof(q5_k_block) == Q5_K_BYTES, "Q5_K");
_Static_assert(sizeof(q6_k_block) == Q6_K_BYTES, "Q6_K");

static inline uint16_t load_u16(const uint8_t* bytes) {
    uint16_t number;
    memcpy(&number, bytes, sizeof number);
    return number;
}

// The order of operations below is that of the format's definition, (d * scale) * q - minimum, and
// contraction is off, so that every build gives the same bits.

static void decode_f32(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    memcpy(target, source, block_count * sizeof *target);
}

static void decode_f16(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    for (size_t i = 0; i < block_count; i++) {
        target[i] = f16_widen(load_u16(source + 2 * i));
    }
}

static void decode_bf16(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    for (size_t i = 0; i < block_count; i++) {
        target[i] = bf16_widen(load_u16(source + 2 * i));
    }
}

static void decode_q8_0(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    const q8_0_block* blocks = (const q8_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += SMALL_BLOCK) {
        const float d = f16_widen(load_u16(blocks[b].d));
        for (int j = 0; j < SMALL_BLOCK; j++) {
            target[j] = d * (float)blocks[b].quants[j];
        }
    }
}

static void decode_q4_0(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    const q4_0_block* blocks = (const q4_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += SMALL_BLOCK) {
        const float d = f16_widen(load_u16(blocks[b].d));
        for (int j = 0; j < SMALL_BLOCK / 2; j++) {
            const int pair = blocks[b].quants[j];
            target[j] = d * (float)((pair & 0xF) - 8);
            target[j + SMALL_BLOCK / 2] = d * (float)((pair >> 4) - 8);
        }
    }
}

// The 32 fifth bits are taken as two halves of 16, one for each run of nibbles.
static void decode_q5_0(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    const q5_0_block* blocks = (const q5_0_block*)source;
    for (size_t b = 0; b < block_count; b++, target += SMALL_BLOCK) {
        const float d = f16_widen(load_u16(blocks[b].d));
        const int low_fifths = load_u16(blocks[b].fifth_bits);
        const int high_fifths = load_u16(blocks[b].fifth_bits + 2);
        for (int j = 0; j < SMALL_BLOCK / 2; j++) {
            const int pair = blocks[b].quants[j];
            const int low = (pair & 0xF) | (((low_fifths >> j) & 1) << 4);
            const int high = (pair >> 4) | (((high_fifths >> j) & 1) << 4);
            target[j] = d * (float)(low - 16);
            target[j + SMALL_BLOCK / 2] = d * (float)(high - 16);
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
    const float scale_unit = f16_widen(load_u16(d));
    const float minimum_unit = f16_widen(load_u16(dmin));
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
static void decode_q4_k(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
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
static void decode_q5_k(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
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

static void decode_q6_k(const uint8_t* restrict source, size_t block_count,
                        float* restrict target) {
    const q6_k_block* blocks = (const q6_k_block*)source;
    for (size_t b = 0; b < block_count; b++, target += SUPER_BLOCK) {
        const q6_k_block* block = &blocks[b];
        const float d = f16_widen(load_u16(block->d));
        decode_q6_k_half(d, block->low_bits, block->high_bits, block->scales, target);
        decode_q6_k_half(d, block->low_bits + 64, block->high_bits + 32, block->scales + 8,
                         target + SUPER_BLOCK / 2);
    }
}

static const decode_fn decoders[WEIR_DTYPE_COUNT] = {
    [WEIR_DTYPE_F32] = decode_f32,   [WEIR_DTYPE_F16] = decode_f16,
    [WEIR_DTYPE_BF16] = decode_bf16, [WEIR_DTYPE_Q8_0] = decode_q8_0,
    [WEIR_DTYPE_Q4_0] = decode_q4_0, [WEIR_DTYPE_Q5_0] = decode_q5_0,
    [WEIR_DTYPE_Q4_K] = decode_q4_k, [WEIR_DTYPE_Q5_K] = decode_q5_k,
    [WEIR_DTYPE_Q6_K] = decode_q6_k,
};

bool weir_dtype_is_decodable(weir_dtype dtype) {
    return (unsigned)dtype < WEIR_DTYPE_COUNT && decoders[dtype] != NULL;
}

weir_status weir_dtype_to_f32(weir_dtype dtype, const void* source, int64_t element_count,
                              float* target) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    if (!weir_dtype_is_decodable(dtype)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "no decoder from %s to F32", info->name);
    }
    if (element_count < 0 || element_count % info->block_elements != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%lld elements of %s to decode, expected whole blocks of %u",
                         (long long)element_count, info->name, info->block_elements);
    }
    // With nothing to decode both pointers may be NULL, which memcpy does not allow.
    if (element_count > 0) {
        decoders[dtype](source, (size_t)element_count / info->block_elements, target);
    }
    return WEIR_OK;
}
