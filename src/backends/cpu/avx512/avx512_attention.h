// The inner loops of attention: products of some queries with a block of keys, and sums of its
// values, each in a form for few queries and one for many. All numbers are f32.
//
// Few queries read keys and values from the cache as they need them. For many, keys are transposed
// and values widened into buffers first, so that each number that is loaded serves several queries.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_ATTENTION_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_ATTENTION_H

#include <weir/dtype.h>

#include <stdint.h>

#define AVX512_KEYS 64      // of a block
#define AVX512_HEAD_MAX 256 // elements of a head, a multiple of 16
#define AVX512_QUERIES 48   // of a unit
#define AVX512_FEW_QUERIES 4

// Some rows of a key head in a cache.
typedef struct avx512_rows {
    const char* first;   // the row, not the head in it
    int64_t stride;      // bytes
    int64_t column;      // where the head begins
    int64_t length;      // elements of the head
    int64_t count;       // rows, 1 .. AVX512_KEYS
    int64_t byte_offset; // of the head in a row
    int64_t next_bytes;  // of the head in each row of the block after this one, 0 for none
    weir_dtype dtype;
} avx512_rows;

// Queries with what has been computed of them.
typedef struct avx512_queries {
    _Alignas(64) float query[AVX512_QUERIES * AVX512_HEAD_MAX]; // [count, length], times the scale
    _Alignas(64) float sum[AVX512_QUERIES * AVX512_HEAD_MAX];   // of values by their weights
    _Alignas(64) float scores[AVX512_QUERIES][AVX512_KEYS];     // of a block, then its weights
    float factor[AVX512_QUERIES]; // that brings `sum` to the largest score of this block
    float max[AVX512_QUERIES];    // largest score so far
    float weight[AVX512_QUERIES]; // sum of the weights
    int64_t seen[AVX512_QUERIES]; // keys
    int64_t count;
    int64_t length; // elements of the head
} avx512_queries;

// Room for a block as it is needed for many queries.
typedef struct avx512_key_block {
    _Alignas(64) float keys[AVX512_HEAD_MAX][AVX512_KEYS];
    _Alignas(64) float values[AVX512_KEYS * AVX512_HEAD_MAX]; // [count, length]
} avx512_key_block;

// Fill the scores of all queries with those of a block; keys that are not there score anything.
// Queries that are not there, up to AVX512_FEW_QUERIES, are zeros.
void avx512_score_few(const avx512_rows* keys, avx512_queries* queries);
void avx512_score_many(const avx512_rows* keys, avx512_key_block* block, avx512_queries* queries);

// Multiply the sums of all queries by their factors and add the values by their weights.
void avx512_sum_few(const avx512_rows* values, avx512_queries* queries);
void avx512_sum_many(const avx512_rows* values, avx512_key_block* block, avx512_queries* queries);

#endif
