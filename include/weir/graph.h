// Graphs: operations over values, built once, without a device and without tensor memory.
//
// A value is what planning places; an operation says what is computed. Values are made in order,
// and the order in which the builder is called is the meaning of the graph: a row written to a
// state is seen by the operations added after it. Shapes are outermost first, activations are f32
// [rows, width].
//
// What changes from pass to pass is a parameter: a number given with each pass, within bounds given
// here. The first dimension of a value may be a parameter; memory is planned for its upper bound.
//
//     weir_graph_create(NULL, &graph);
//     weir_graph_param(graph, "rows", 1, 128, &rows);
//     weir_graph_input(graph, "x", WEIR_DTYPE_F32, &shape, rows, &x);
//     weir_graph_weight(graph, "w", WEIR_DTYPE_Q8_0, &w_shape, &w);
//     weir_graph_matmul(graph, x, w, &y);
//     weir_graph_output(graph, y);
//
// Of all functions that add something:
// Ownership: the graph owns values and operations; names are copied.
// Errors:    WEIR_INVALID_ARGUMENT unknown value, shapes or types that do not fit (the message
//            names the operation and both); WEIR_OUT_OF_MEMORY.
// Threads:   thread-compatible.
#ifndef WEIR_GRAPH_H
#define WEIR_GRAPH_H

#include <weir/allocator.h>
#include <weir/view.h>

WEIR_C_BEGIN

typedef struct weir_graph weir_graph;
typedef uint32_t weir_value; // a value of one graph, counted from 0
typedef uint32_t weir_param; // a parameter of one graph, counted from 0: its place in the block

#define WEIR_VALUE_NONE UINT32_MAX
#define WEIR_PARAM_NONE UINT32_MAX

typedef enum weir_value_kind {
    WEIR_VALUE_INPUT = 0,  // written by the caller before each pass
    WEIR_VALUE_WEIGHT = 1, // read only, bound to a view when a program is made
    WEIR_VALUE_STATE = 2,  // outlives the pass, bound to a view when a program is made
    WEIR_VALUE_RESULT = 3, // made by an operation
    WEIR_VALUE_VIEW = 4,   // a window on another value: no bytes of its own
} weir_value_kind;

typedef enum weir_op_kind {
    WEIR_OP_GET_ROWS = 0,
    WEIR_OP_RMS_NORM = 1,
    WEIR_OP_MUL = 2,
    WEIR_OP_ADD = 3,
    WEIR_OP_MATMUL = 4,
    WEIR_OP_ROPE = 5,
    WEIR_OP_ATTENTION = 6,
    WEIR_OP_SILU_GATE = 7,
    WEIR_OP_SET_ROWS = 8,
    // Made by fusion alone (weir/fusion.h).
    WEIR_OP_GATE_UP = 9,
    WEIR_OP_MATMUL_ADD = 10,
    WEIR_OP_ADD_RMS_NORM_MUL = 11,
    WEIR_OP_RMS_NORM_MUL = 12,
    WEIR_OP_ROPE_SET_ROWS = 13,
    WEIR_OP_ATTENTION_SCORES = 14,
    WEIR_OP_ATTENTION_SOFTMAX = 15,
    WEIR_OP_ATTENTION_SUM = 16,
    WEIR_OP_RMS_NORM_MATMUL = 17, // made by fusion alone, as the next
    WEIR_OP_RMS_NORM_GATE_UP = 18,
    WEIR_OP_MATMUL_SET_ROWS = 19,
    WEIR_OP_MATMUL_ROPE = 20,
    WEIR_OP_CUSTOM = 21, // of the caller: weir_graph_custom
    WEIR_OP_COUNT
} weir_op_kind;

typedef struct weir_value_info {
    const char* name;     // "" when it was given none; belongs to the graph
    weir_value_kind kind; // where its bytes come from
    bool is_output;       // read by the caller after each pass
    weir_value root;      // the value whose bytes it is a window of; itself unless VIEW
    weir_view layout;     // dtype, shape at the upper bounds, strides; byte_offset within root
    weir_param rows;      // the parameter that gives dims[0], or WEIR_PARAM_NONE
} weir_value_info;

typedef struct weir_param_info {
    const char* name;
    uint64_t lower; // smallest value a pass may give
    uint64_t upper; // largest
} weir_param_info;

// Creates an empty graph.
//
// Ownership: the caller destroys it; programs and schedules made from it do not need it any more.
// Errors:    WEIR_OUT_OF_MEMORY.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_graph_create(const weir_allocator* allocator,
                                                     weir_graph** graph);

// Destroys a graph; NULL is a no-op.
//
// Threads: thread-compatible.
WEIR_API void weir_graph_destroy(weir_graph* graph);

// Adds a parameter with the bounds [lower, upper].
WEIR_API WEIR_MUST_USE weir_status weir_graph_param(weir_graph* graph, const char* name,
                                                    uint64_t lower, uint64_t upper,
                                                    weir_param* param);

// Adds a value that the caller writes before each pass. With `rows` other than WEIR_PARAM_NONE,
// dims[0] is that parameter; its value in `shape` must be the upper bound.
WEIR_API WEIR_MUST_USE weir_status weir_graph_input(weir_graph* graph, const char* name,
                                                    weir_dtype dtype, const weir_shape* shape,
                                                    weir_param rows, weir_value* input);

// Adds a weight: never written, bound when a program is made.
WEIR_API WEIR_MUST_USE weir_status weir_graph_weight(weir_graph* graph, const char* name,
                                                     weir_dtype dtype, const weir_shape* shape,
                                                     weir_value* weight);

// Adds a state: it outlives the pass and is bound when a program is made; two programs that bind
// the same storage share it.
WEIR_API WEIR_MUST_USE weir_status weir_graph_state(weir_graph* graph, const char* name,
                                                    weir_dtype dtype, const weir_shape* shape,
                                                    weir_value* state);

// Marks a result as read by the caller after each pass. Views cannot be outputs.
WEIR_API WEIR_MUST_USE weir_status weir_graph_output(weir_graph* graph, weir_value result);

// Names a result for reports and messages.
WEIR_API WEIR_MUST_USE weir_status weir_graph_name(weir_graph* graph, weir_value value,
                                                   const char* name);

// Makes a window on dimension `axis` of a value, or gives it another shape, without a copy. Only
// the first dimension may be a parameter, and it can be neither narrowed nor reshaped away.
WEIR_API WEIR_MUST_USE weir_status weir_graph_narrow(weir_graph* graph, weir_value value,
                                                     uint32_t axis, int64_t start, int64_t length,
                                                     weir_value* narrow);
WEIR_API WEIR_MUST_USE weir_status weir_graph_reshape(weir_graph* graph, weir_value value,
                                                      const weir_shape* shape,
                                                      weir_value* reshaped);

// Looks up rows: y[i] = table[indices[i]] as f32.
//
// Shapes:   table [n, k], indices [m], y [m, k].
// Types:    table f32, f16, bf16 or a block type; indices i32; y f32.
// Errors:   a pass with an index outside [0, n) fails with WEIR_OUT_OF_RANGE.
WEIR_API WEIR_MUST_USE weir_status weir_graph_get_rows(weir_graph* graph, weir_value table,
                                                       weir_value indices, weir_value* y);

// Normalises rows: y = x / sqrt(mean(x^2) + epsilon) (Zhang and Sennrich 2019).
//
// Shapes:   x [m, k], y [m, k].
// Types:    f32.
// Aliasing: y may be placed on x.
WEIR_API WEIR_MUST_USE weir_status weir_graph_rms_norm(weir_graph* graph, weir_value x,
                                                       float epsilon, weir_value* y);

// Multiplies or adds element by element.
//
// Shapes:   a [m, k], b [m, k] or [k] (one row for all), y [m, k].
// Types:    a f32; b f32, or f16 or bf16 when it is a row; y f32.
// Aliasing: y may be placed on a, and on b when b is no row.
WEIR_API WEIR_MUST_USE weir_status weir_graph_mul(weir_graph* graph, weir_value a, weir_value b,
                                                  weir_value* y);
WEIR_API WEIR_MUST_USE weir_status weir_graph_add(weir_graph* graph, weir_value a, weir_value b,
                                                  weir_value* y);

// Multiplies by a transposed matrix: y = x * transpose(w).
//
// Shapes:   x [m, k], w [n, k], y [m, n].
// Types:    x, y f32; w f32, f16, bf16 or a block type whose block divides k.
// Aliasing: y is never placed on x or w.
WEIR_API WEIR_MUST_USE weir_status weir_graph_matmul(weir_graph* graph, weir_value x, weir_value w,
                                                     weir_value* y);

typedef enum weir_rope_pairing {
    WEIR_ROPE_ADJACENT = 0, // pairs (2i, 2i + 1)
    WEIR_ROPE_HALVES = 1,   // pairs (i, i + rotated / 2)
} weir_rope_pairing;

typedef struct weir_rope_desc {
    uint32_t head_dim;         // elements of one head; divides the width of x
    uint32_t rotated;          // leading elements of each head that are rotated, even; 0 = head_dim
    weir_rope_pairing pairing; // which two elements turn together
    float base;                // frequency base, 10000 in the paper
    float scale;               // positions are multiplied by it; 0 = 1
    weir_param position;       // position of the first row; row i has position + i
} weir_rope_desc;

// Rotates pairs of each head by an angle that grows with the position (RoPE, Su et al. 2021).
// `factors` (a weight f32 [rotated / 2]) divides the frequencies; WEIR_VALUE_NONE for none.
//
// Shapes:   x [m, heads * head_dim], y the same.
// Types:    f32.
// Aliasing: y may be placed on x.
WEIR_API WEIR_MUST_USE weir_status weir_graph_rope(weir_graph* graph, weir_value x,
                                                   weir_value factors, const weir_rope_desc* desc,
                                                   weir_value* y);

typedef struct weir_attention_desc {
    uint32_t heads;      // query heads
    uint32_t kv_heads;   // divides heads; each serves heads / kv_heads query heads
    uint32_t head_dim;   // elements of one head
    float scale;         // of the scores; 0 = 1 / sqrt(head_dim)
    weir_param position; // position of the first row: row i sees keys 0 .. position + i
} weir_attention_desc;

// Computes causal attention over a cache (Vaswani et al. 2017; grouped queries, Ainslie et al.
// 2023).
//
// Shapes:   q [m, heads * head_dim], keys and values [n, kv_heads * head_dim], y as q. The cache
//           must hold position + m rows in every pass; here the bounds of each are checked alone,
//           because the last position and the longest batch need not come together.
// Types:    q, y f32; keys and values each f32, f16, bf16 or q8_0, whose blocks may span heads.
// Aliasing: y may be placed on q.
// Errors:   a pass with position + m over n fails with WEIR_OUT_OF_RANGE.
WEIR_API WEIR_MUST_USE weir_status weir_graph_attention(weir_graph* graph, weir_value q,
                                                        weir_value keys, weir_value values,
                                                        const weir_attention_desc* desc,
                                                        weir_value* y);

// Attention in three operations, for targets or comparisons that have no single one: scores of each
// head and key, their softmax, and the sum of the values by these weights. One after another they
// compute what weir_graph_attention does, with y of the first two in memory.
//
// Shapes:   q [m, heads * head_dim], keys and values [n, kv_heads * head_dim], scores and weights
//           [m, heads * n]: head by head one column per key. The cache as in weir_graph_attention.
// Types:    those of weir_graph_attention; scores and weights f32.
// Aliasing: the result of the softmax may be placed on the scores.
// Errors:   a pass with position + m over n fails with WEIR_OUT_OF_RANGE.
//
// The scores are plain products, 0 for keys that a row does not see. The softmax multiplies them by
// the scale; a key that a row does not see weighs 0, and is not read by the sum.
WEIR_API WEIR_MUST_USE weir_status weir_graph_attention_scores(weir_graph* graph, weir_value q,
                                                               weir_value keys,
                                                               const weir_attention_desc* desc,
                                                               weir_value* scores);
WEIR_API WEIR_MUST_USE weir_status weir_graph_attention_softmax(weir_graph* graph,
                                                                weir_value scores,
                                                                const weir_attention_desc* desc,
                                                                weir_value* weights);
WEIR_API WEIR_MUST_USE weir_status weir_graph_attention_sum(weir_graph* graph, weir_value weights,
                                                            weir_value values,
                                                            const weir_attention_desc* desc,
                                                            weir_value* y);

// Gates: y = silu(gate) * up, silu(x) = x / (1 + exp(-x)) (SwiGLU, Shazeer 2020).
//
// Shapes:   all [m, k].
// Types:    f32.
// Aliasing: y may be placed on gate or up.
WEIR_API WEIR_MUST_USE weir_status weir_graph_silu_gate(weir_graph* graph, weir_value gate,
                                                        weir_value up, weir_value* y);

// Copies x into rows [position, position + m) of a state, or of a view of one.
//
// Shapes:   x [m, k], state [n, k]; n must hold position + m in every pass, checked as above.
// Types:    x f32; state f32, f16, bf16 or q8_0, to which x is rounded (weir_dtype_from_f32).
// Errors:   a pass with position + m over n fails with WEIR_OUT_OF_RANGE.
WEIR_API WEIR_MUST_USE weir_status weir_graph_set_rows(weir_graph* graph, weir_value x,
                                                       weir_value state, weir_param position);

#define WEIR_CUSTOM_INPUTS_MAX 4
#define WEIR_CUSTOM_NAME_BYTES 24    // with the terminator
#define WEIR_CUSTOM_CONSTANTS_MAX 32 // bytes

typedef struct weir_custom_desc {
    const char* name;         // of the operation: by it the kernels of a target are found
    const weir_value* inputs; // read, each whole; 1 to WEIR_CUSTOM_INPUTS_MAX
    uint32_t input_count;
    weir_dtype dtype;      // of the result
    weir_shape shape;      // of the result, at the upper bounds
    weir_param rows;       // gives dims[0] of the result; WEIR_PARAM_NONE (not 0) where it is fixed
    uint32_t in_place;     // bit i: the result may be placed on input i, see Aliasing
    const void* constants; // copied; what tiles and results depend on, beside the operands
    size_t constants_size; // at most WEIR_CUSTOM_CONSTANTS_MAX
} weir_custom_desc;

// Adds an operation that weir has no kernel for. It is planned, ordered and checked as any other; a
// kernel for it stands in the target (weir/target.h) that a schedule is made for. A state among the
// inputs is read whole, so it must have grown to all of its rows; rows are appended by set_rows.
//
// Shapes:   any; `shape` has elements.
// Types:    any.
// Aliasing: y may be placed on an input of the same type and shape whose bit is set: tile t of the
//           kernel then overwrites only bytes of that input that only tile t reads, after it has
//           read them.
WEIR_API WEIR_MUST_USE weir_status weir_graph_custom(weir_graph* graph,
                                                     const weir_custom_desc* desc, weir_value* y);

// Return facts of a graph, NULL for an unknown value or parameter.
//
// Ownership: infos belong to the graph and hold until it changes.
// Threads:   thread-safe while nothing is added.
WEIR_API uint32_t weir_graph_value_count(const weir_graph* graph);
WEIR_API uint32_t weir_graph_param_count(const weir_graph* graph);
WEIR_API uint32_t weir_graph_op_count(const weir_graph* graph);
WEIR_API const weir_value_info* weir_graph_value_info(const weir_graph* graph, weir_value value);
WEIR_API const weir_param_info* weir_graph_param_info(const weir_graph* graph, weir_param param);

// Finds a value by its name; of several with that name, the first that was made. Values without a
// name are not found.
//
// Errors:  WEIR_NOT_FOUND, the message has the name.
// Threads: thread-safe while nothing is added.
WEIR_API WEIR_MUST_USE weir_status weir_graph_find(const weir_graph* graph, const char* name,
                                                   weir_value* value);

// Returns "matmul", "rope", ...; "unknown" outside the enumeration.
//
// Threads: thread-safe.
WEIR_API const char* weir_op_name(weir_op_kind op);

WEIR_C_END

#endif
