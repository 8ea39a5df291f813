// Products with weights of F32, F16 and BF16: x is used as it is.
#include "backends/cpu/products/product_tile.h"

#define X CPU_PRODUCT_X

static void prepare_few(const cpu_products* set, const weir_kernel_call* call, void* state) {
    (void)set;
    (void)call;
    (void)state;
}

static void few(const cpu_products* set, const weir_kernel_call* call, uint32_t operand,
                cpu_span columns, void* state, float* sums) {
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
            sums[i * CPU_FEW_COLUMNS + n - columns.begin] = products[i];
        }
    }
}

static void multiply_matrix(const cpu_products* set, const weir_kernel_call* call, uint32_t operand,
                            cpu_span rows, cpu_span columns, float* sums) {
    const weir_view* x = &call->views[X];
    const weir_view* w = &call->views[operand];
    const cpu_float_type* type = cpu_products_float(set, w->dtype);
    const int64_t element_bytes = weir_dtype_describe(w->dtype)->block_bytes;
    cpu_float_block block;
    for (int64_t n = columns.begin; n < columns.end; n += CPU_BLOCK_WIDTH) {
        const int64_t width = cpu_min(CPU_BLOCK_WIDTH, columns.end - n);
        for (int64_t begin = 0; begin < x->shape.dims[1]; begin += CPU_FLOAT_CHUNK) {
            const int64_t length = cpu_min(CPU_FLOAT_CHUNK, x->shape.dims[1] - begin);
            type->unpack(cpu_row(call, operand, n) + begin * element_bytes, w->strides[0], width,
                         length, &block);
            set->multiply_floats(&block, cpu_row_f32(call, X, rows.begin) + begin,
                                 x->strides[0] / (int64_t)sizeof(float), rows.end - rows.begin,
                                 length, begin == 0, sums + n - columns.begin, CPU_MANY_COLUMNS);
        }
    }
}

static void many(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums) {
    for (uint32_t m = 0; m < matrices->count; m++) {
        multiply_matrix(set, call, matrices->operands[m], rows, columns, sums[m]);
    }
}

const cpu_product_way cpu_product_way_float = {
    .prepare_few = prepare_few,
    .few = few,
    .many = many,
};
