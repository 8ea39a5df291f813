// The two ways of attention: few queries of a key head read keys and values from the cache as they
// need them; for many, keys are transposed and values widened into buffers first, so that each
// number that is loaded serves several queries. All numbers are f32.
#ifndef WEIR_BACKENDS_CPU_AVX512_AVX512_ATTENTION_H
#define WEIR_BACKENDS_CPU_AVX512_AVX512_ATTENTION_H

#include <weir/target.h>

#include <stdint.h>

#define AVX512_KEYS 64      // of a block
#define AVX512_HEAD_MAX 256 // elements of a head, a multiple of 16
#define AVX512_QUERIES 48   // of a unit
#define AVX512_FEW_TOTAL 8  // queries of a key head up to which they are few

// Some rows of a key head in a cache.
typedef struct avx512_rows {
    const char* first; // the row, not the head in it
    int64_t stride;    // bytes
    int64_t column;    // where the head begins
    int64_t length;    // elements of the head
    int64_t count;     // rows, 1 .. AVX512_KEYS
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

// Fills the scores of all queries with those of a block; keys that are not there score anything.
void avx512_score_many(const avx512_rows* keys, avx512_key_block* block, avx512_queries* queries);

// Multiplies the sums of all queries by their factors and adds the values by their weights.
void avx512_sum_many(const avx512_rows* values, avx512_key_block* block, avx512_queries* queries);

// Whether a pass of some rows has few queries.
bool avx512_attention_is_few(const weir_attention_desc* desc, int64_t rows);

// Tiles of a pass of few queries, and the bytes of scratch that passes of up to the rows of these
// views need while they have few.
uint32_t avx512_attention_few_tiles(const weir_view* views, const weir_attention_desc* desc);
uint64_t avx512_attention_few_scratch(const weir_view* views, const weir_attention_desc* desc);

// Runs a tile, or the join, of a pass of few queries whose first row is at `position`.
void avx512_attention_few(const weir_kernel_call* call, int64_t position);

#endif
