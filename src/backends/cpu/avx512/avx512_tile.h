// The products that matmul, matmul_add and gate_up have in common: x times one or two matrices.
//
// Two ways. Up to AVX512_FEW_ROWS rows of x, each weight row goes from memory to registers once and
// is multiplied with all of them: what counts is the reading. With more rows, weights are unpacked
// 16 rows and a chunk at a time into the cache, and serve a block of rows of x there.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_TILE_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_TILE_H

#include "backends/cpu/kernels/cpu_kernels.h"

#define AVX512_MATRICES_MAX 2
#define AVX512_FEW_ROWS 4     // of x
#define AVX512_FEW_COLUMNS 8  // weight rows in a unit, for few rows of x
#define AVX512_ROWS 64        // of x in a unit, for many
#define AVX512_COLUMNS 256    // weight rows in a unit, for many: at most
#define AVX512_BLOCK_WIDTH 16 // weight rows that are unpacked together

// What a unit has computed: sums[m][(row - rows.begin) * stride + column - columns.begin] for each
// matrix m.
typedef struct avx512_sums {
    const float* of[AVX512_MATRICES_MAX];
    int64_t stride;
} avx512_sums;

// Writes a unit to the output.
typedef weir_status (*avx512_finish_fn)(const weir_kernel_call* call, cpu_span rows,
                                        cpu_span columns, const avx512_sums* sums);

// The operands that hold the matrices.
typedef struct avx512_matrices {
    uint32_t operands[AVX512_MATRICES_MAX];
    uint32_t count;
} avx512_matrices;

// Whether the matrices are all of quantised types, or all of float types.
bool avx512_fits(const weir_view* operands, const avx512_matrices* matrices);

uint32_t avx512_tiles(const weir_view* operands, const avx512_matrices* matrices);

// Computes a tile and calls `finish` for each unit of it.
weir_status avx512_run_tile(const weir_kernel_call* call, const avx512_matrices* matrices,
                            avx512_finish_fn finish);

// The way of a class of types: what avx512_run_tile calls for each unit. x is operand 0.
typedef struct avx512_way {
    // Makes what a tile of few rows needs of x, at most AVX512_STATE_BYTES.
    void (*prepare_few)(const weir_kernel_call* call, void* state);

    // sums[i * AVX512_FEW_COLUMNS + column - columns.begin] for each row i of x.
    void (*few)(const weir_kernel_call* call, uint32_t operand, cpu_span columns, void* state,
                float* sums);

    // sums[m][i * AVX512_COLUMNS + column - columns.begin] for each row i of `rows`.
    void (*many)(const weir_kernel_call* call, const avx512_matrices* matrices, cpu_span rows,
                 cpu_span columns, float (*sums)[AVX512_ROWS * AVX512_COLUMNS]);
} avx512_way;

#define AVX512_STATE_BYTES 196608

extern const avx512_way avx512_way_quantized;
extern const avx512_way avx512_way_float;

#endif
