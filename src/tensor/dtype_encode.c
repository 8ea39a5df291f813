#include <weir/dtype.h>

#include "tensor/half.h"

#include <math.h>

#define Q8_0_ELEMENTS 32
#define Q8_0_MAX (127.0f * 65504.0f) // 127 times the largest f16

static void encode_f16(const float* source, size_t count, uint8_t* target) {
    for (size_t i = 0; i < count; i++) {
        const uint16_t half = f16_narrow(source[i]);
        memcpy(target + 2 * i, &half, sizeof half);
    }
}

static void encode_bf16(const float* source, size_t count, uint8_t* target) {
    for (size_t i = 0; i < count; i++) {
        const uint16_t half = bf16_narrow(source[i]);
        memcpy(target + 2 * i, &half, sizeof half);
    }
}

// |number| < 128: no conversion is out of range.
static int8_t round_to_i8(float number) {
    return (int8_t)(number < 0.0f ? number - 0.5f : number + 0.5f);
}

// x = d * q, d the f16 of the largest magnitude / 127. A block with a number that this cannot hold
// decodes to NaN: nothing that was lost looks like a number.
static void encode_q8_0_block(const float* source, uint8_t* block) {
    float largest = 0.0f;
    bool fits = true;
    for (int i = 0; i < Q8_0_ELEMENTS; i++) {
        const float magnitude = fabsf(source[i]);
        fits = fits && magnitude <= Q8_0_MAX; // false for a NaN
        largest = magnitude > largest ? magnitude : largest;
    }
    const uint16_t d = f16_narrow(fits ? largest / 127.0f : NAN);
    // Below this d is 0, and the inverse may be infinite.
    const float inverse = fits && largest > 0x1p-20f ? 127.0f / largest : 0.0f;
    memcpy(block, &d, sizeof d);
    for (int i = 0; i < Q8_0_ELEMENTS; i++) {
        block[2 + i] = fits ? (uint8_t)round_to_i8(source[i] * inverse) : 0;
    }
}

bool weir_dtype_is_encodable(weir_dtype dtype) {
    return dtype == WEIR_DTYPE_F32 || dtype == WEIR_DTYPE_F16 || dtype == WEIR_DTYPE_BF16 ||
           dtype == WEIR_DTYPE_Q8_0;
}

weir_status weir_dtype_from_f32(weir_dtype dtype, const float* source, int64_t element_count,
                                void* target) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    if (!weir_dtype_is_encodable(dtype)) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "no encoder from F32 to %s", info->name);
    }
    if (element_count < 0 || element_count % info->block_elements != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%lld elements to encode as %s, expected whole blocks of %u",
                         (long long)element_count, info->name, info->block_elements);
    }
    const size_t count = (size_t)element_count;
    switch (dtype) {
    case WEIR_DTYPE_F16:
        encode_f16(source, count, target);
        break;
    case WEIR_DTYPE_BF16:
        encode_bf16(source, count, target);
        break;
    case WEIR_DTYPE_Q8_0:
        for (size_t i = 0; i < count; i += Q8_0_ELEMENTS) {
            encode_q8_0_block(source + i, (uint8_t*)target + i / Q8_0_ELEMENTS * info->block_bytes);
        }
        break;
    default:
        // With nothing to encode both pointers may be NULL, which memcpy does not allow.
        if (count > 0) {
            memcpy(target, source, count * sizeof *source);
        }
    }
    return WEIR_OK;
}
