// matmul, matmul_add and gate_up: what they do with the sums of a unit. The elements of the output
// that a unit reads (matmul_add in place) are those that it writes.
#include "backends/cpu/products/product_kernels.h"

#include <string.h>

#include "backends/cpu/kernels/elementwise.h"

#define C 2 // operand of matmul_add

static const float* row_of(const cpu_product_sums* sums, uint32_t matrix, int64_t row) {
    return sums->of[matrix] + row * sums->stride;
}

static weir_status store(const cpu_products* set, const weir_kernel_call* call, cpu_span rows,
                         cpu_span columns, const cpu_product_sums* sums) {
    (void)set;
    for (int64_t row = rows.begin; row < rows.end; row++) {
        memcpy(cpu_output_row(call, row) + columns.begin, row_of(sums, 0, row - rows.begin),
               (size_t)(columns.end - columns.begin) * sizeof(float));
    }
    return WEIR_OK;
}

static weir_status store_sum(const cpu_products* set, const weir_kernel_call* call, cpu_span rows,
                             cpu_span columns, const cpu_product_sums* sums) {
    (void)set;
    float decoded[CPU_MANY_COLUMNS];
    for (int64_t row = rows.begin; row < rows.end; row++) {
        const float* c = NULL;
        WEIR_TRY(cpu_read_pair_or_row(call, C, row, columns, decoded, &c));
        const float* products = row_of(sums, 0, row - rows.begin);
        float* y = cpu_output_row(call, row) + columns.begin;
        for (int64_t i = 0; i < columns.end - columns.begin; i++) {
            y[i] = products[i] + c[i];
        }
    }
    return WEIR_OK;
}

static weir_status store_gated(const cpu_products* set, const weir_kernel_call* call, cpu_span rows,
                               cpu_span columns, const cpu_product_sums* sums) {
    for (int64_t row = rows.begin; row < rows.end; row++) {
        set->silu_gate(row_of(sums, 0, row - rows.begin), row_of(sums, 1, row - rows.begin),
                       columns.end - columns.begin, cpu_output_row(call, row) + columns.begin);
    }
    return WEIR_OK;
}

bool cpu_product_accepts(const cpu_product_op* op, const cpu_products* set,
                         const weir_kernel_use* use) {
    return op->accepts(use) && cpu_product_fits(set, use->operands, &op->matrices);
}

const cpu_product_op cpu_product_matmul = {
    .accepts = weir_cpu_matmul_accepts,
    .matrices = {.operands = {1}, .count = 1},
    .finish = store,
};

const cpu_product_op cpu_product_matmul_add = {
    .accepts = weir_cpu_matmul_add_accepts,
    .matrices = {.operands = {1}, .count = 1},
    .finish = store_sum,
};

const cpu_product_op cpu_product_gate_up = {
    .accepts = weir_cpu_gate_up_accepts,
    .matrices = {.operands = {1, 2}, .count = 2},
    .finish = store_gated,
};
