// The products of AVX-512 (F, BW, DQ, VL) with VNNI: what its files give each other.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_PRODUCTS_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_PRODUCTS_H

#include "backends/cpu/products/products.h"

#define AVX512_FLOAT_TYPES 3
#define AVX512_FLOAT_ROWS 4 // weight rows that share what they read of a short row of x

extern const cpu_float_type avx512_float_types[AVX512_FLOAT_TYPES];
extern const cpu_float_type avx512_bf16_float_types[AVX512_FLOAT_TYPES];
extern const cpu_products avx512_products;
extern const cpu_products avx512_bf16_products; // which rounds x for weights of BF16

// As cpu_products describes them.
void avx512_quantize(const float* x, int64_t count, cpu_chunk* chunk);
void avx512_quantize_k(const float* x, int64_t count, cpu_chunk* chunk); // for Q4_K and Q5_K
void avx512_dot_q4_k(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,
                     int64_t stride, int64_t count, float* sums);
void avx512_dot_q5_k(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,
                     int64_t stride, int64_t count, float* sums);
void avx512_dot_many_f32(const cpu_weight_rows* weights, int64_t elements, const float* const* x,
                         int64_t count, float* sums, int64_t stride);
void avx512_dot_many_f16(const cpu_weight_rows* weights, int64_t elements, const float* const* x,
                         int64_t count, float* sums, int64_t stride);
void avx512_dot_many_bf16(const cpu_weight_rows* weights, int64_t elements, const float* const* x,
                          int64_t count, float* sums, int64_t stride);
void avx512_dot_many_rounded(const cpu_weight_rows* weights, int64_t elements,
                             const float* const* x, int64_t count, float* sums, int64_t stride);
void avx512_unpack_fixed_f16(const uint8_t* weights, int64_t row_bytes, int64_t rows, int64_t chunk,
                             int64_t elements, cpu_fixed_block* block);
void avx512_unpack_fixed_bf16(const uint8_t* weights, int64_t row_bytes, int64_t rows,
                              int64_t chunk, int64_t elements, cpu_fixed_block* block);
void avx512_quantize_fixed(const float* x, int64_t count, cpu_fixed_chunk* chunk);
void avx512_multiply_fixed(const cpu_fixed_block* block, const cpu_fixed_chunk* x, int64_t count,
                           bool first, float* sums, int64_t stride);
void avx512_silu_gate(const float* gate, const float* up, int64_t count, float* y);

#endif
