#include "tensor/dtype_decode.h"

void dtype_decode_f32(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    memcpy(target, source, block_count * sizeof *target);
}

void dtype_decode_f16(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    for (size_t i = 0; i < block_count; i++) {
        target[i] = load_f16(source + 2 * i);
    }
}

void dtype_decode_bf16(const uint8_t* restrict source, size_t block_count, float* restrict target) {
    for (size_t i = 0; i < block_count; i++) {
        target[i] = bf16_widen(load_u16(source + 2 * i));
    }
}

// Decodes `block_count` blocks.
typedef void (*decode_fn)(const uint8_t* restrict source, size_t block_count,
                          float* restrict target);

static const decode_fn decoders[WEIR_DTYPE_COUNT] = {
#define DECODER_ROW(name, dtype) [WEIR_DTYPE_##dtype] = dtype_decode_##name,
    DTYPE_DECODER_LIST(DECODER_ROW)
#undef DECODER_ROW
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
