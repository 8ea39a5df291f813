// One set of functions for each quantised type, made from its unpacking.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_QUANTIZED_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_QUANTIZED_H

#include <weir/dtype.h>

#include "backends/cpu/avx512/avx512_activations.h"
#include "backends/cpu/avx512/avx512_tile.h"

#define AVX512_BLOCK_ROWS 8 // of x, summed side by side in registers

// 16 weight rows of one chunk, unpacked: bytes k .. k + 3 of all rows lie together.
typedef struct avx512_block {
    _Alignas(64) uint8_t u[AVX512_CHUNK / 4][AVX512_BLOCK_WIDTH][4];
    _Alignas(64) float scale[AVX512_GROUPS][AVX512_BLOCK_WIDTH];
    _Alignas(64) float minimum[AVX512_GROUPS][AVX512_BLOCK_WIDTH];
} avx512_block;

typedef struct avx512_quantized {
    weir_dtype dtype;
    int64_t chunk_bytes; // of AVX512_CHUNK weights

    // Computes sums[i] = dot product of one weight row with row i of x, i < count, at most
    // AVX512_FEW_ROWS. `stride` is the distance between rows of x in chunks.
    void (*dot)(const uint8_t* weights, int64_t elements, const avx512_chunk* x, int64_t stride,
                int64_t count, float* sums);

    // Unpacks elements [256 * chunk, + 256) of up to 16 rows; rows that are not there become zeros.
    void (*unpack)(const uint8_t* weights, int64_t row_bytes, int64_t rows, int64_t chunk,
                   int64_t elements, avx512_block* block);

    // Adds the products of a block with `count` chunks of x, at most AVX512_BLOCK_ROWS, to
    // sums[i * stride + column], which count as 0 where `first` is true. All 16 columns are
    // written.
    void (*multiply)(const avx512_block* block, const avx512_chunk* x, int64_t count, bool first,
                     float* sums, int64_t stride);
} avx512_quantized;

// Returns the functions of a type, NULL for one that is not quantised.
const avx512_quantized* avx512_quantized_find(weir_dtype dtype);

#endif
