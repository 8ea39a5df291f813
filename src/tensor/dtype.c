#include <weir/dtype.h>

#include "base/checked.h"
#include "tensor/half.h"

// The X-macro gives enumeration and table the same order; index 0 is NONE.
#define DTYPE_INFO(name, elements, bytes, alignment, gguf) {#name, elements, bytes, alignment},
static const weir_dtype_info infos[] = {{"NONE", 0, 0, 0}, WEIR_DTYPE_LIST(DTYPE_INFO)};
#undef DTYPE_INFO

_Static_assert(sizeof infos / sizeof *infos == WEIR_DTYPE_COUNT, "one row for each dtype");

const weir_dtype_info* weir_dtype_describe(weir_dtype dtype) {
    // A negative value of a signed enumeration becomes a large one.
    const unsigned index = (unsigned)dtype;
    return &infos[index < WEIR_DTYPE_COUNT ? index : WEIR_DTYPE_NONE];
}

weir_status weir_dtype_byte_size(weir_dtype dtype, int64_t element_count, uint64_t* byte_size) {
    const weir_dtype_info* info = weir_dtype_describe(dtype);
    if (info->block_elements == 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "dtype %d has no size", (int)dtype);
    }
    if (element_count < 0 || element_count % info->block_elements != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "%lld elements of %s, expected a multiple of the block of %u, at least 0",
                         (long long)element_count, info->name, info->block_elements);
    }
    uint64_t bytes = 0;
    if (!mul_u64((uint64_t)element_count / info->block_elements, info->block_bytes, &bytes)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the bytes of %lld elements of %s do not fit 64 bits",
                         (long long)element_count, info->name);
    }
    *byte_size = bytes;
    return WEIR_OK;
}

float weir_f16_to_f32(uint16_t bits) {
    return f16_widen(bits);
}

uint16_t weir_f32_to_f16(float number) {
    return f16_narrow(number);
}

float weir_bf16_to_f32(uint16_t bits) {
    return bf16_widen(bits);
}

uint16_t weir_f32_to_bf16(float number) {
    return bf16_narrow(number);
}
