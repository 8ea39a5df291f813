// Products with weights of F16 and BF16 and many rows of x, as 16-bit integers.
#include "backends/cpu/products/product_chunks.h"

#define X CPU_PRODUCT_X

// Short rows would be filled up to a chunk, which costs as much as it brings.
bool cpu_product_is_fixed(const cpu_products* set, const weir_view* operands,
                          const cpu_matrices* matrices) {
    for (uint32_t m = 0; m < matrices->count; m++) {
        const cpu_float_type* type = cpu_products_float(set, operands[matrices->operands[m]].dtype);
        if (!type || !type->unpack_fixed) {
            return false;
        }
    }
    const int64_t* dims = operands[X].shape.dims;
    return dims[0] >= CPU_FIXED_ROWS && dims[1] >= CPU_CHUNK;
}

static const void* type_of(const cpu_products* set, weir_dtype dtype) {
    return cpu_products_float(set, dtype);
}

static int64_t weight_bytes(const void* type) {
    const cpu_float_type* of = type;
    return CPU_CHUNK * (int64_t)weir_dtype_describe(of->dtype)->block_bytes;
}

static bool share_x(const void* type, const void* other) {
    (void)type;
    (void)other;
    return true;
}

static void quantize(const cpu_products* set, const void* type, const float* x, int64_t count,
                     void* chunk) {
    (void)type;
    set->quantize_fixed(x, count, chunk);
}

static void unpack(const void* type, const weir_view* w, const uint8_t* first, int64_t rows,
                   int64_t chunk, void* block) {
    ((const cpu_float_type*)type)
        ->unpack_fixed(first, w->strides[0], rows, chunk, w->shape.dims[1], block);
}

static void multiply(const cpu_products* set, const void* type, const void* block, const void* x,
                     int64_t count, bool first, float* sums, int64_t stride) {
    (void)type;
    set->multiply_fixed(block, x, count, first, sums, stride);
}

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    static const cpu_chunk_functions functions = {
        .x_bytes = sizeof(cpu_fixed_chunk),
        .type_of = type_of,
        .weight_bytes = weight_bytes,
        .share_x = share_x,
        .quantize = quantize,
        .unpack = unpack,
        .multiply = multiply,
    };
    cpu_multiply_chunks(set, &functions, call, matrices, rows, columns, sums);
}

const cpu_product_way cpu_product_way_fixed = {.many = many};
