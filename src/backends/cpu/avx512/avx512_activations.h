// Rows of x as 8-bit integers, in chunks of 256 elements: what the products with quantised weights
// read. Each 32 elements share a scale, x = d * q with q in [-127, 127]; the last chunk of a row is
// filled up with zeros.
//
// Weights come as unsigned bytes u that stand for scale * (u - offset) - minimum, the offset being
// one number per type. A sum over a group of elements is then
//
//     sum(w * x) = scale * d * (sum(u * q) - offset * sum(q)) - minimum * d * sum(q)
//
// and what does not depend on the weight is kept beside the quants.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_ACTIVATIONS_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_ACTIVATIONS_H

#include <stdint.h>

#define AVX512_CHUNK 256 // elements
#define AVX512_GROUPS 16 // of 16 elements in a chunk

typedef struct avx512_chunk {
    _Alignas(64) int8_t q[AVX512_CHUNK];
    _Alignas(64) int32_t sum[AVX512_GROUPS]; // of 16 neighbours
    _Alignas(64) float d[AVX512_GROUPS];     // scale; pairs are equal
    _Alignas(64) float d_sum[AVX512_GROUPS]; // d * sum
} avx512_chunk;

// Quantises `count` elements, 1 .. AVX512_CHUNK, of a row.
void avx512_quantize(const float* x, int64_t count, avx512_chunk* chunk);

#endif
