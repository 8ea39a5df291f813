// The kernels made of products: matmul, matmul_add and gate_up of each instruction set.
//
// They follow the rules of the plain kernels: work is cut by shapes alone, and every element is
// summed in one order. They are not bit for bit those of the plain kernels, and a row of x alone
// need not have the bits that it has among others: few rows and many take different ways, and some
// types a third from CPU_FIXED_ROWS on. How x is rounded for each type is in products.h.
#ifndef WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_KERNELS_H
#define WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_KERNELS_H

#include "backends/cpu/products/product_tile.h"

// X(isa, name, operation)
#define CPU_PRODUCT_LIST(X, isa)                                                                   \
    X(isa, matmul, MATMUL)                                                                         \
    X(isa, matmul_add, MATMUL_ADD)                                                                 \
    X(isa, gate_up, GATE_UP)

// An operation made of products: what it does with the sums of a unit.
typedef struct cpu_product_op {
    bool (*accepts)(const weir_kernel_use* use); // apart from the types of the matrices
    cpu_matrices matrices;
    cpu_finish_fn finish;
} cpu_product_op;

extern const cpu_product_op cpu_product_matmul;
extern const cpu_product_op cpu_product_matmul_add;
extern const cpu_product_op cpu_product_gate_up;

bool cpu_product_accepts(const cpu_product_op* op, const cpu_products* set,
                         const weir_kernel_use* use);

// Declares and defines the kernels ISA_NAME of the set ISA_products.
#define CPU_PRODUCT_DECLARE(isa, name, operation)                                                  \
    bool isa##_##name##_accepts(const weir_kernel_use* use);                                       \
    uint32_t isa##_##name##_tiles(const weir_kernel_use* use);                                     \
    weir_status isa##_##name##_run(const weir_kernel_call* call);

#define CPU_PRODUCT_DEFINE(isa, name, operation)                                                   \
    bool isa##_##name##_accepts(const weir_kernel_use* use) {                                      \
        return cpu_product_accepts(&cpu_product_##name, &isa##_products, use);                     \
    }                                                                                              \
    uint32_t isa##_##name##_tiles(const weir_kernel_use* use) {                                    \
        return cpu_product_tiles(&isa##_products, use->operands, &cpu_product_##name.matrices);    \
    }                                                                                              \
    weir_status isa##_##name##_run(const weir_kernel_call* call) {                                 \
        return cpu_product_run(&isa##_products, call, &cpu_product_##name.matrices,                \
                               cpu_product_##name.finish);                                         \
    }

#endif
