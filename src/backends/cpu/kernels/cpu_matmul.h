// The block product that matmul shares with the kernels that compute more of it at once.
//
// A unit is a block of weight rows with a block of rows of x. Weight rows are decoded a chunk at a
// time, and each decoded chunk serves all rows of x in the unit: with at most CPU_MATMUL_ROWS rows
// in a pass the weights are read once. A sum is that of the dot products of its chunks in rising
// order, whatever the unit.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_MATMUL_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_MATMUL_H

#include "backends/cpu/kernels/cpu_kernels.h"

#define CPU_MATMUL_COLUMNS 16 // most of a block
#define CPU_MATMUL_ROWS 128

typedef float cpu_matmul_sums[CPU_MATMUL_ROWS][CPU_MATMUL_COLUMNS];

// Writes the sums of a block to the output.
typedef weir_status (*cpu_matmul_store_fn)(const weir_kernel_call* call, cpu_span rows,
                                           cpu_span columns);

// Whether x can be multiplied by w into an output of the shape of `y`.
bool weir_cpu_matmul_fits(const weir_view* x, const weir_view* w, const weir_view* y);

// Tiles of an output of the shape of `y`, of which each column takes `row_bytes` bytes of weights.
uint32_t weir_cpu_matmul_cut(const weir_view* y, int64_t row_bytes);

// Multiplies rows of operand 0 by rows of operand `w`: sums[row - rows.begin][i] for each column.
weir_status weir_cpu_matmul_block(const weir_kernel_call* call, uint32_t w, cpu_span rows,
                                  cpu_span columns, cpu_matmul_sums sums);

// Calls `store` for each block of the tile.
weir_status weir_cpu_matmul_tile(const weir_kernel_call* call, cpu_matmul_store_fn store);

#endif
