// Products of activations with weights: what an instruction set brings for them.
//
// Quantised weights meet rows of x as 8-bit integers, in chunks of 256 elements. Each 32 elements
// share a scale, x = d * q with q in [-127, 127]; the last chunk of a row is filled up with zeros.
// Weights come as bytes u that stand for scale * (u - offset) - minimum, the offset being one
// number per type. A sum over a group of elements is then
//
//     sum(w * x) = scale * d * (sum(u * q) - offset * sum(q)) - minimum * d * sum(q)
//
// and what does not depend on the weight is kept beside the quants. Where the scales and minima of
// a type are small integers times units of a chunk, x may be quantised in such a way that d is an
// integer times a unit as well; the products of the scales are then those of integers.
//
// Weights of F32, F16 and BF16 are multiplied in f32, or, where a set has functions for it, as
// 16-bit integers with many rows of x: w = scale * u with one scale for each 256 elements of a
// row and |u| up to CPU_FIXED_WEIGHT, x = d * q with one d for each 64, whose q have a Euclidean
// norm of at most CPU_FIXED_NORM. By the inequality of Cauchy and Schwarz no sum over these
// exceeds 32 bits:
//
//     |sum(u * q)| <= sqrt(64) * CPU_FIXED_WEIGHT * CPU_FIXED_NORM < 2^31
//
// With few rows of x each weight row meets all of them in registers (`dot`); several weight rows
// share what they read of x. With many, 16 weight rows are unpacked and transposed into the cache,
// so that each lane is a weight row, and serve a block of rows of x there (`unpack`, `multiply`),
// or meet many of them in registers (`dot_many`).
#ifndef WEIR_BACKENDS_CPU_PRODUCTS_PRODUCTS_H
#define WEIR_BACKENDS_CPU_PRODUCTS_PRODUCTS_H

#include <weir/target.h>

#define CPU_CHUNK 256               // elements
#define CPU_GROUPS (CPU_CHUNK / 16) // of 16 elements in a chunk
#define CPU_FLOAT_CHUNK 128         // elements that are unpacked together, of float types
#define CPU_FLOAT_ROWS 12           // weight rows of float types that `dot` takes, at most
#define CPU_FEW_ROWS 4              // of x: at most
#define CPU_RUN_COLUMNS 64          // weight rows that few rows of x meet in one call, at most
#define CPU_BLOCK_WIDTH 16          // weight rows that are unpacked together
#define CPU_BLOCK_ROWS 8            // of x that a block is multiplied with at once, at most
#define CPU_FIXED_ROWS 20           // of x, at least: fewer do not make up for unpacking
#define CPU_FIXED_GROUP 64          // elements of x that share a scale
#define CPU_FIXED_GROUPS (CPU_CHUNK / CPU_FIXED_GROUP)
#define CPU_FIXED_WEIGHT 8191
#define CPU_FIXED_NORM 32767

// Of a chunk of x for types with integers for scales.
typedef struct cpu_factors {
    int16_t factors[CPU_GROUPS]; // of d and of d * sum, in an order of the instruction set
    float units[2];              // what those of d and of d * sum are multiplied with
} cpu_factors;

typedef struct cpu_chunk {
    _Alignas(64) int8_t q[CPU_CHUNK]; // in an order of the instruction set
    union {
        _Alignas(64) int32_t sum[CPU_GROUPS]; // of 16 neighbours
        cpu_factors integers;                 // instead, for types with integers for scales
    };
    _Alignas(64) float d[CPU_GROUPS];     // scale; pairs are equal
    _Alignas(64) float d_sum[CPU_GROUPS]; // d * sum, of 16 neighbours; or of 32, then 0
} cpu_chunk;

// 16 weight rows of one chunk, unpacked: bytes k .. k + 3 of all rows lie together.
typedef struct cpu_block {
    _Alignas(64) uint8_t u[CPU_CHUNK / 4][CPU_BLOCK_WIDTH][4];
    _Alignas(64) float scale[CPU_GROUPS][CPU_BLOCK_WIDTH];
    _Alignas(64) float minimum[CPU_GROUPS][CPU_BLOCK_WIDTH];
} cpu_block;

// Elements of a row of x as 16-bit integers, and 16 weight rows to meet them: elements 2 k and
// 2 k + 1 of all rows lie together.
typedef struct cpu_fixed_chunk {
    _Alignas(64) int16_t q[CPU_CHUNK]; // in an order of the instruction set
    _Alignas(64) float d[CPU_FIXED_GROUPS];
} cpu_fixed_chunk;

typedef struct cpu_fixed_block {
    _Alignas(64) int16_t u[CPU_CHUNK / 2][CPU_BLOCK_WIDTH][2];
    _Alignas(64) float scale[CPU_BLOCK_WIDTH];
} cpu_fixed_block;

typedef struct cpu_float_block {
    _Alignas(64) float w[CPU_FLOAT_CHUNK][CPU_BLOCK_WIDTH];
} cpu_float_block;

// Rows of a matrix, `byte_stride` apart, and what will be read after them, so that it can be asked
// for before. Where that is not known, NULL, what lies behind the rows is as good a guess as any.
typedef struct cpu_weight_rows {
    const uint8_t* first;
    int64_t byte_stride;
    int64_t count;
    const uint8_t* next;
} cpu_weight_rows;

// The functions of a quantised type.
typedef struct cpu_quantized_type {
    weir_dtype dtype;
    int64_t chunk_bytes; // of CPU_CHUNK weights

    // Quantises `count` elements, 1 .. CPU_CHUNK, of a row of x. Types with the same function share
    // what it makes.
    void (*quantize)(const float* x, int64_t count, cpu_chunk* chunk);

    // Computes sums[i * CPU_RUN_COLUMNS + n] = dot product of weight row n with row i of x, for up
    // to CPU_RUN_COLUMNS weight rows in all and up to CPU_FEW_ROWS rows of x, `stride` apart. What
    // an element comes to does not depend on the rows beside it.
    void (*dot)(const cpu_weight_rows* weights, int64_t elements, const cpu_chunk* x,
                int64_t stride, int64_t count, float* sums);

    // Unpacks elements [256 * chunk, + 256) of up to 16 rows; rows that are not there become zeros.
    void (*unpack)(const uint8_t* weights, int64_t row_bytes, int64_t rows, int64_t chunk,
                   int64_t elements, cpu_block* block);

    // Adds the products of a block with `count` chunks of x, at most CPU_BLOCK_ROWS, to
    // sums[i * stride + column], which count as 0 where `first` is true. All 16 columns are
    // written.
    void (*multiply)(const cpu_block* block, const cpu_chunk* x, int64_t count, bool first,
                     float* sums, int64_t stride);
} cpu_quantized_type;

// The functions of F32, F16 or BF16.
typedef struct cpu_float_type {
    weir_dtype dtype;

    // Computes sums[i * CPU_FLOAT_ROWS + r] = dot product of weights[r] with x[i], for up to
    // CPU_FLOAT_ROWS weight rows and `count` rows of x, at most CPU_FEW_ROWS. What an element comes
    // to does not depend on the weight rows beside it.
    void (*dot)(const char* const* weights, int64_t rows, int64_t elements, const float* const* x,
                int64_t count, float* sums);

    // Computes sums[i * stride + n] = dot product of weight row n with x[i], for any number of
    // both. A set has it for all types or for none; then weights are unpacked for many rows of x.
    void (*dot_many)(const cpu_weight_rows* weights, int64_t elements, const float* const* x,
                     int64_t count, float* sums, int64_t stride);

    // Unpacks `count` elements, at most CPU_FLOAT_CHUNK, of up to 16 rows; rows that are not there
    // become zeros. `weights` is the first element of the first row.
    void (*unpack)(const char* weights, int64_t row_bytes, int64_t rows, int64_t count,
                   cpu_float_block* block);

    // As unpack of cpu_quantized_type, into integers. NULL: many rows of x are multiplied in f32.
    void (*unpack_fixed)(const uint8_t* weights, int64_t row_bytes, int64_t rows, int64_t chunk,
                         int64_t elements, cpu_fixed_block* block);
} cpu_float_type;

// What an instruction set brings.
typedef struct cpu_products {
    const cpu_quantized_type* quantized;
    uint32_t quantized_count;
    const cpu_float_type* floats;
    uint32_t float_count;

    // Weight rows that `dot` is given at a time, at most CPU_FLOAT_ROWS: where the row of x stays
    // in the first cache beside them, and where it is too long for that.
    uint32_t float_rows;
    uint32_t float_rows_long;

    // Adds the products of a block with `count` rows of x, of `length` elements, to
    // sums[i * stride + column], which count as 0 where `first` is true. All 16 columns are
    // written. Not called where types have dot_many.
    void (*multiply_floats)(const cpu_float_block* block, const float* x, int64_t x_stride,
                            int64_t count, int64_t length, bool first, float* sums, int64_t stride);

    // As quantize and as multiply of cpu_quantized_type, with 16-bit integers. Not called where no
    // type has unpack_fixed.
    void (*quantize_fixed)(const float* x, int64_t count, cpu_fixed_chunk* chunk);
    void (*multiply_fixed)(const cpu_fixed_block* block, const cpu_fixed_chunk* x, int64_t count,
                           bool first, float* sums, int64_t stride);

    // y = silu(gate) * up, element by element; y may be gate or up.
    void (*silu_gate)(const float* gate, const float* up, int64_t count, float* y);
} cpu_products;

// Return the functions of a type, NULL for one of the other kind, or that the set does not have.
const cpu_quantized_type* cpu_products_quantized(const cpu_products* set, weir_dtype dtype);
const cpu_float_type* cpu_products_float(const cpu_products* set, weir_dtype dtype);

#endif
