// What the kernels of attention share: how work is cut into units whose rows and heads read the
// same keys and values, and how rows of a cache of any type are found as f32.
#ifndef WEIR_BACKENDS_CPU_KERNELS_CPU_ATTENTION_H
#define WEIR_BACKENDS_CPU_KERNELS_CPU_ATTENTION_H

#include "backends/cpu/kernels/cpu_kernels.h"

#define CPU_ATTENTION_BLOCK 64     // keys that are taken in at a time
#define CPU_ATTENTION_HEAD_MAX 512 // elements of a head that is decoded

// Units of the plain kernels.
#define CPU_ATTENTION_HEADS 4   // at most
#define CPU_ATTENTION_QUERIES 8 // about
#define CPU_ATTENTION_PRODUCTS 131072.0

// A head begins anywhere in a block of the type and may end in another.
#define CPU_ATTENTION_DECODED (CPU_ATTENTION_BLOCK * (CPU_ATTENTION_HEAD_MAX + 64))

// Units of one pass: each has some of the query heads of one key head, for some rows.
typedef struct cpu_attention_cut {
    int64_t group;      // query heads of a key head
    int64_t heads;      // of a unit, the last of a key head may have fewer
    int64_t head_units; // of a key head
    int64_t rows;       // of a unit, the last may have fewer
    int64_t row_count;
    int64_t units;
} cpu_attention_cut;

// The queries of a unit: query i is head `heads.begin + i % heads` of row `rows.begin + i / heads`.
typedef struct cpu_attention_unit {
    int64_t kv_head;
    cpu_span heads;
    cpu_span rows;
} cpu_attention_unit;

// Cuts into units of at most `heads_max` heads and about `queries` queries.
cpu_attention_cut weir_cpu_attention_cut(const weir_attention_desc* desc, int64_t row_count,
                                         int64_t heads_max, int64_t queries);

cpu_attention_unit weir_cpu_attention_unit(const cpu_attention_cut* cut, int64_t unit);

// The cut of the plain kernels.
static inline cpu_attention_cut cpu_plain_cut(const weir_attention_desc* desc, int64_t row_count) {
    return weir_cpu_attention_cut(desc, row_count, CPU_ATTENTION_HEADS, CPU_ATTENTION_QUERIES);
}

// Tiles of units that each multiply their queries with `keys` keys; `products` make a tile.
static inline uint32_t cpu_attention_tiles(const cpu_attention_cut* cut, int64_t keys,
                                           const weir_attention_desc* desc, double products) {
    const double queries = (double)(cut->heads * cpu_min(cut->rows, cut->row_count));
    return cpu_tiles(cut->units, queries * desc->head_dim * (double)keys, products);
}

// Whether the operands of attention fit together, with heads of at most `head_max` elements.
bool weir_cpu_attention_fits(const weir_kernel_use* use, uint32_t head_max);

// Whether a view can be read as keys or values.
static inline bool cpu_is_readable_cache(const weir_view* view, const weir_attention_desc* desc) {
    return cpu_is_cache(view) &&
           (view->dtype == WEIR_DTYPE_F32 || desc->head_dim <= CPU_ATTENTION_HEAD_MAX);
}

// Whether a view has a column for each head and key of a cache.
static inline bool cpu_has_scores(const weir_view* view, const weir_view* cache,
                                  const weir_attention_desc* desc) {
    int64_t width = 0;
    return cpu_is_matrix(view) &&
           !__builtin_mul_overflow((int64_t)desc->heads, cache->shape.dims[0], &width) &&
           view->shape.dims[1] == width;
}

// Reads the position of a pass whose rows must fit a cache of `keys` rows.
static inline weir_status cpu_attention_position(const weir_kernel_call* call, const char* name,
                                                 int64_t row_count, int64_t keys,
                                                 int64_t* position) {
    const weir_attention_desc* desc = &((const weir_op_constants*)call->constants)->attention;
    uint64_t number = 0;
    WEIR_TRY(cpu_read_param(call, name, desc->position, &number));
    WEIR_TRY(cpu_check_cache(name, number, row_count, keys));
    *position = (int64_t)number;
    return WEIR_OK;
}

// One head of some rows of a cache as f32.
typedef struct cpu_cache_rows {
    const float* first;
    int64_t stride; // floats from row to row
    int64_t count;
    int64_t length; // elements of the head
} cpu_cache_rows;

// Finds rows `keys` of a key head in a cache: where they are, or decoded into `decoded`
// [CPU_ATTENTION_DECODED]. Other types than F32: at most CPU_ATTENTION_BLOCK rows.
WEIR_MUST_USE weir_status weir_cpu_cache_rows(const weir_kernel_call* call, uint32_t operand,
                                              int64_t kv_head, cpu_span keys, float* decoded,
                                              cpu_cache_rows* rows);

// What an operation does with a block of keys for a unit; `decoded` as in weir_cpu_cache_rows.
typedef weir_status (*cpu_attention_block_fn)(const weir_kernel_call* call,
                                              const cpu_attention_unit* unit, int64_t position,
                                              cpu_span block, float* decoded);

// Calls `take` for the blocks of the units of a tile, in the order of the keys; operand `cache` has
// the keys, `name` is the operation.
WEIR_MUST_USE weir_status weir_cpu_attention_walk(const weir_kernel_call* call, const char* name,
                                                  uint32_t cache, cpu_attention_block_fn take);

// The keys of a block that a row sees.
static inline int64_t cpu_seen_keys(int64_t position, int64_t row, cpu_span block) {
    const int64_t seen = position + row + 1 - block.begin;
    return seen < 0 ? 0 : cpu_min(seen, block.end - block.begin);
}

// The products of a query with each key.
void weir_cpu_score_keys(const cpu_cache_rows* keys, const float* query, float* scores);

// Adds each value times its weight, in their order.
void weir_cpu_add_values(const cpu_cache_rows* values, const float* weights, float* sum);

#endif
