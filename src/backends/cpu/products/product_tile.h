// How products are cut and run, whatever the instruction set: x times one or two matrices. Every
// element is summed in one order, which depends on the shapes alone.
#ifndef WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_TILE_H
#define WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_TILE_H

#include "backends/cpu/kernels/cpu_kernels.h"
#include "backends/cpu/products/products.h"

#define CPU_PRODUCT_X 0 // operand
#define CPU_MATRICES_MAX 2
#define CPU_PARTS_MAX CPU_FLOAT_ROWS // of a matrix that are read side by side
#define CPU_MANY_ROWS 128            // of x in a unit, for many
#define CPU_MANY_COLUMNS 128         // weight rows in a unit, for many: at most

// What a unit has computed: of[m][(row - rows.begin) * stride + column - columns.begin] for each
// matrix m.
typedef struct cpu_product_sums {
    const float* of[CPU_MATRICES_MAX];
    int64_t stride;
} cpu_product_sums;

typedef float cpu_few_sums[CPU_FEW_ROWS * CPU_RUN_COLUMNS];
typedef float cpu_many_sums[CPU_MANY_ROWS * CPU_MANY_COLUMNS];

// Writes a unit to the output.
typedef weir_status (*cpu_finish_fn)(const cpu_products* set, const weir_kernel_call* call,
                                     cpu_span rows, cpu_span columns, const cpu_product_sums* sums);

// Asks for bytes that are wanted later, all lines that they lie in. The second cache has room for
// them, not always the first.
static inline void cpu_fetch(const char* bytes, int64_t byte_size) {
    const uintptr_t end = (uintptr_t)bytes + (uintptr_t)byte_size;
    for (uintptr_t line = (uintptr_t)bytes & ~(uintptr_t)63; line < end; line += 64) {
        __builtin_prefetch((const char*)line, 0, 2);
    }
}

// The operands that hold the matrices.
typedef struct cpu_matrices {
    uint32_t operands[CPU_MATRICES_MAX];
    uint32_t count;
} cpu_matrices;

// Returns what is read after these columns of matrix m: the same of the next matrix, or those that
// follow in the first one, in this tile or in its neighbour, which the worker is likely to run
// next; NULL where there is none.
const char* cpu_next_weights(const weir_kernel_call* call, const cpu_matrices* matrices, uint32_t m,
                             cpu_span columns);

// 16 weight rows that are unpacked together, in one part of their elements.
typedef struct cpu_block_place {
    uint32_t matrix;
    int64_t column;
    int64_t part;
} cpu_block_place;

// The place after another in a unit of many rows: the next columns, then the next matrix, then the
// next part, which may lie behind the end of the rows.
cpu_block_place cpu_next_place(const cpu_matrices* matrices, cpu_span columns, cpu_block_place at);

// Whether the matrices have as many rows, and types of the set, all of them quantised or all float.
bool cpu_product_fits(const cpu_products* set, const weir_view* operands,
                      const cpu_matrices* matrices);

uint32_t cpu_product_tiles(const cpu_products* set, const weir_view* operands,
                           const cpu_matrices* matrices);

// Computes a tile and calls `finish` for each unit or, for few rows of x, run of columns of it.
weir_status cpu_product_run(const cpu_products* set, const weir_kernel_call* call,
                            const cpu_matrices* matrices, cpu_finish_fn finish);

// Weight rows that few rows of x meet in one call: `span` of each of `part_count` parts of the
// matrices, `part_rows` rows each; the last one may end before.
typedef struct cpu_few_run {
    cpu_span span;
    int64_t part_rows;
    int64_t part_count;
} cpu_few_run;

// The way of a kind of types: what cpu_product_run calls for each of these.
typedef struct cpu_product_way {
    // How many weight rows of each matrix, from as many parts of it, are read side by side where
    // few rows of x meet the matrices; at most CPU_PARTS_MAX. NULL: one, then its neighbours.
    int64_t (*parts)(const cpu_products* set, const weir_view* operands,
                     const cpu_matrices* matrices);

    // Makes what a tile of few rows needs of x, at most CPU_STATE_BYTES.
    void (*prepare_few)(const cpu_products* set, const weir_kernel_call* call,
                        const cpu_matrices* matrices, void* state);

    // sums[m][i * CPU_RUN_COLUMNS + part * length + j] for each row i of x and each row j of the
    // span, which has `length` rows.
    void (*few)(const cpu_products* set, const weir_kernel_call* call, const cpu_matrices* matrices,
                const cpu_few_run* run, void* state, cpu_few_sums* sums);

    // sums[m][i * CPU_MANY_COLUMNS + column - columns.begin] for each row i of `rows`.
    void (*many)(const cpu_products* set, const weir_kernel_call* call,
                 const cpu_matrices* matrices, cpu_span rows, cpu_span columns,
                 cpu_many_sums* sums);
} cpu_product_way;

#define CPU_STATE_BYTES 196608

extern const cpu_product_way cpu_product_way_quantized;
extern const cpu_product_way cpu_product_way_float;
extern const cpu_product_way cpu_product_way_fixed; // many rows of x only

// Whether the matrices meet these rows of x as 16-bit integers.
bool cpu_product_is_fixed(const cpu_products* set, const weir_view* operands,
                          const cpu_matrices* matrices);

#endif
