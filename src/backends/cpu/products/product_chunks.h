// Many rows of x as integers, chunk by chunk: 16 weight rows at a time are unpacked in the cache
// and meet all rows of x of a unit there.
#ifndef WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_CHUNKS_H
#define WEIR_BACKENDS_CPU_PRODUCTS_PRODUCT_CHUNKS_H

#include "backends/cpu/products/product_tile.h"

// What is done with chunks of a kind; see the functions of cpu_products with these names. `type` is
// what `type_of` returns, the functions of a weight type.
typedef struct cpu_chunk_functions {
    size_t x_bytes; // of a chunk of a row of x, at most CPU_CHUNK_X_BYTES
    const void* (*type_of)(const cpu_products* set, weir_dtype dtype);
    int64_t (*weight_bytes)(const void* type);            // of a chunk of a weight row
    bool (*share_x)(const void* type, const void* other); // whether x is quantised alike for both
    void (*quantize)(const cpu_products* set, const void* type, const float* x, int64_t count,
                     void* chunk);
    void (*unpack)(const void* type, const weir_view* w, const uint8_t* first, int64_t rows,
                   int64_t chunk, void* block);
    void (*multiply)(const cpu_products* set, const void* type, const void* block, const void* x,
                     int64_t count, bool first, float* sums, int64_t stride);
} cpu_chunk_functions;

#define CPU_CHUNK_X_BYTES 576

// Whether all matrices meet x quantised in the same way.
bool cpu_matrices_share_x(const cpu_products* set, const cpu_chunk_functions* functions,
                          const weir_kernel_call* call, const cpu_matrices* matrices);

// As `many` of cpu_product_way.
void cpu_multiply_chunks(const cpu_products* set, const cpu_chunk_functions* functions,
                         const weir_kernel_call* call, const cpu_matrices* matrices, cpu_span rows,
                         cpu_span columns, cpu_many_sums* sums);

#endif
