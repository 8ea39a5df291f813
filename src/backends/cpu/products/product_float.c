// Products with weights of F32, F16 and BF16.
#include <string.h>

#include "backends/cpu/products/product_tile.h"

#define X CPU_PRODUCT_X

static void prepare_few(const cpu_products* set, const weir_kernel_call* call, void* state) {
    (void)set;
    (void)call;
    (void)state;
}

static void few(const cpu_products* set, const weir_kernel_call* call, uint32_t operand,
                cpu_span columns, const char* next, void* state, float* sums) {
    (void)next;
    (void)state;
    const cpu_float_type* type = cpu_products_float(set, call->views[operand].dtype);
    const weir_shape* shape = &call->views[X].shape;
    const float* x[CPU_FEW_ROWS];
    for (int64_t i = 0; i < shape->dims[0]; i++) {
        x[i] = cpu_row_f32(call, X, i);
    }
    for (int64_t n = columns.begin; n < columns.end; n++) {
        float products[CPU_FEW_ROWS];
        type->dot(cpu_row(call, operand, n), shape->dims[1], x, shape->dims[0], products);
        for (int64_t i = 0; i < shape->dims[0]; i++) {
            sums[i * CPU_RUN_COLUMNS + n - columns.begin] = products[i];
        }
    }
}

// A part of each row of x, side by side: where rows lie a power of two apart, their elements of one
// index would drive each other out of the cache. The gap keeps lines of rows in sets of their own.
#define PART 512 // elements
#define PART_STRIDE (PART + 16)

typedef struct part_of_rows {
    _Alignas(64) float x[CPU_MANY_ROWS * PART_STRIDE];
} part_of_rows;

static void pack(const weir_kernel_call* call, cpu_span rows, cpu_span elements,
                 part_of_rows* part) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        memcpy(part->x + (row - rows.begin) * PART_STRIDE,
               cpu_row_f32(call, X, row) + elements.begin,
               (size_t)(elements.end - elements.begin) * sizeof(float));
    }
}

// Adds the products of a part of the rows of x, the first where it begins with element 0, to the
// sums of one matrix.
static void multiply_part(const cpu_products* set, const weir_kernel_call* call, uint32_t operand,
                          cpu_span columns, cpu_span elements, const part_of_rows* part,
                          int64_t rows, float* sums) {
    const weir_view* w = &call->views[operand];
    const cpu_float_type* type = cpu_products_float(set, w->dtype);
    const int64_t element_bytes = weir_dtype_describe(w->dtype)->block_bytes;
    cpu_float_block block;
    for (int64_t n = columns.begin; n < columns.end; n += CPU_BLOCK_WIDTH) {
        const int64_t width = cpu_min(CPU_BLOCK_WIDTH, columns.end - n);
        for (int64_t e = elements.begin; e < elements.end; e += CPU_FLOAT_CHUNK) {
            const int64_t length = cpu_min(CPU_FLOAT_CHUNK, elements.end - e);
            type->unpack(cpu_row(call, operand, n) + e * element_bytes, w->strides[0], width,
                         length, &block);
            set->multiply_floats(&block, part->x + e - elements.begin, PART_STRIDE, rows, length,
                                 e == 0, sums + n - columns.begin, CPU_MANY_COLUMNS);
        }
    }
}

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    const int64_t count = call->views[X].shape.dims[1];
    part_of_rows part;
    for (int64_t begin = 0; begin < count; begin += PART) {
        const cpu_span elements = {begin, cpu_min(begin + PART, count)};
        pack(call, rows, elements, &part);
        for (uint32_t m = 0; m < matrices->count; m++) {
            multiply_part(set, call, matrices->operands[m], columns, elements, &part,
                          rows.end - rows.begin, sums[m]);
        }
    }
}

const cpu_product_way cpu_product_way_float = {
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
