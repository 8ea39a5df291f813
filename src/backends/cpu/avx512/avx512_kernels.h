// The kernels for processors with AVX-512 (F, BW, DQ, VL) and VNNI. What is not here is done by the
// plain kernels.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_KERNELS_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_KERNELS_H

#include "backends/cpu/products/product_kernels.h"

// X(name, operation)
#define AVX512_KERNEL_LIST(X)                                                                      \
    X(matmul, MATMUL)                                                                              \
    X(matmul_add, MATMUL_ADD)                                                                      \
    X(gate_up, GATE_UP)                                                                            \
    X(rope, ROPE)                                                                                  \
    X(set_rows, SET_ROWS)                                                                          \
    X(rope_set_rows, ROPE_SET_ROWS)

#define AVX512_KERNEL_DECLARE(name, operation)                                                     \
    bool avx512_##name##_accepts(const weir_kernel_use* use);                                      \
    uint32_t avx512_##name##_tiles(const weir_kernel_use* use);                                    \
    weir_status avx512_##name##_run(const weir_kernel_call* call);
AVX512_KERNEL_LIST(AVX512_KERNEL_DECLARE)
AVX512_KERNEL_DECLARE(attention, ATTENTION)
#undef AVX512_KERNEL_DECLARE

uint64_t avx512_attention_scratch(const weir_kernel_use* use);

// Products that round x to BF16 for many rows of x and weights of BF16.
CPU_PRODUCT_LIST(CPU_PRODUCT_DECLARE, avx512_bf16)

#endif
