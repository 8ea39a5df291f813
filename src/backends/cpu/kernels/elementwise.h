// What mul, add and silu_gate share: y = f(a, b) element by element, b of the shape of a or one row
// for all rows.
#ifndef WEIR_BACKENDS_CPU_KERNELS_ELEMENTWISE_H
#define WEIR_BACKENDS_CPU_KERNELS_ELEMENTWISE_H

#include "backends/cpu/kernels/cpu_kernels.h"
#include "backends/cpu/kernels/cpu_vector.h"

#define ELEMENTWISE_COLUMNS 1024 // of one unit

// Computes `count` elements; y may be a or b.
typedef void (*cpu_elementwise_fn)(const float* a, const float* b, int64_t count, float* y);

static inline int64_t cpu_elementwise_units(const weir_view* a) {
    return a->shape.dims[0] * cpu_divide_up(a->shape.dims[1], ELEMENTWISE_COLUMNS);
}

// Tiles of about `elements` elements each.
static inline uint32_t cpu_elementwise_tiles(const weir_view* a, double elements) {
    const int64_t columns = cpu_min(a->shape.dims[1], ELEMENTWISE_COLUMNS);
    return cpu_tiles(cpu_elementwise_units(a), (double)columns, elements);
}

// Finds columns of row `row` of an operand that is a matrix or one row for all: where they are, or
// decoded. A row of 16-bit numbers is decoded each time: it is short beside what it is applied to.
static inline weir_status cpu_read_pair_or_row(const weir_kernel_call* call, uint32_t operand,
                                               int64_t row, cpu_span columns, float* decoded,
                                               const float** numbers) {
    const weir_view* b = &call->views[operand];
    const size_t b_size = weir_dtype_describe(b->dtype)->block_bytes;
    const char* source =
        cpu_row(call, operand, b->shape.rank == 1 ? 0 : row) + (size_t)columns.begin * b_size;
    *numbers = (const float*)(const void*)source;
    if (b->dtype != WEIR_DTYPE_F32) {
        WEIR_TRY(weir_dtype_to_f32(b->dtype, source, columns.end - columns.begin, decoded));
        *numbers = decoded;
    }
    return WEIR_OK;
}

static inline weir_status cpu_elementwise_run(const weir_kernel_call* call,
                                              cpu_elementwise_fn compute) {
    const weir_view* a = &call->views[0];
    const int64_t pieces = cpu_divide_up(a->shape.dims[1], ELEMENTWISE_COLUMNS);
    const cpu_span span = cpu_tile_units(call, cpu_elementwise_units(a));
    float decoded[ELEMENTWISE_COLUMNS];
    for (int64_t unit = span.begin; unit < span.end; unit++) {
        const int64_t row = unit / pieces;
        const cpu_span columns =
            cpu_unit_items(unit % pieces, ELEMENTWISE_COLUMNS, a->shape.dims[1]);
        const float* b = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, 1, row, columns, decoded, &b));
        compute(cpu_row_f32(call, 0, row) + columns.begin, b, columns.end - columns.begin,
                cpu_output_row(call, row) + columns.begin);
    }
    return WEIR_OK;
}

static inline bool cpu_accepts_row(const weir_view* b, const weir_view* a) {
    return (cpu_has_rows(b, WEIR_DTYPE_F32, 1) || cpu_has_rows(b, WEIR_DTYPE_F16, 1) ||
            cpu_has_rows(b, WEIR_DTYPE_BF16, 1)) &&
           b->shape.dims[0] == a->shape.dims[1];
}

// b has the shape of a, or is one row for all rows of it.
static inline bool cpu_fits_pair_or_row(const weir_view* b, const weir_view* a) {
    return (cpu_is_matrix(b) && weir_shape_equal(&b->shape, &a->shape)) || cpu_accepts_row(b, a);
}

static inline bool cpu_accepts_pair(const weir_view* operands, uint32_t operand_count) {
    return operand_count == 3 && cpu_is_matrix(&operands[0]) && cpu_is_matrix(&operands[1]) &&
           weir_shape_equal(&operands[0].shape, &operands[1].shape) &&
           cpu_is_output(&operands[2], &operands[0]);
}

static inline bool cpu_accepts_pair_or_row(const weir_view* operands, uint32_t operand_count) {
    return operand_count == 3 && cpu_is_matrix(&operands[0]) &&
           cpu_fits_pair_or_row(&operands[1], &operands[0]) &&
           cpu_is_output(&operands[2], &operands[0]);
}

#endif
