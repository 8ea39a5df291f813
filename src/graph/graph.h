// Inside a graph: what lowering reads. Values and operations lie in the order they were added.
#ifndef WEIR_GRAPH_GRAPH_H
#define WEIR_GRAPH_GRAPH_H

#include <weir/target.h>

#include "base/array.h"

#define GRAPH_OP_INPUTS 4

typedef struct graph_op {
    weir_op_kind kind;
    weir_value inputs[GRAPH_OP_INPUTS]; // unused: WEIR_VALUE_NONE
    uint32_t input_count;
    weir_value output; // the result; for set_rows the state that it writes to
    weir_value sum;    // a second result, before `output` among the operands, or WEIR_VALUE_NONE
    weir_op_constants constants;
} graph_op;

typedef struct graph_value {
    weir_value_info info; // info.name points to `name` or to ""
    char* name;           // owned, or NULL
} graph_value;

typedef struct graph_param {
    weir_param_info info;
    char* name; // owned
} graph_param;

struct weir_graph {
    weir_allocator allocator;
    struct {
        graph_value* items;
        size_t count, capacity;
    } values;
    struct {
        graph_op* items;
        size_t count, capacity;
    } ops;
    struct {
        graph_param* items;
        size_t count, capacity;
    } params;
};

// What an operation is, apart from its shapes. One row per weir_op_kind.
typedef struct graph_op_info {
    const char* name;
    uint32_t in_place; // bit i: tile t of the output overwrites only bytes of input i that only
                       // tile t reads, after it has read them
    bool writes_state; // the output is a state: only part of it is overwritten
} graph_op_info;

const graph_op_info* weir_graph_op_info(weir_op_kind kind); // NULL outside the enumeration

// What an operation of the caller brings itself, and the others have from the table: its name, and
// where its output may lie.
const char* weir_graph_op_label(weir_op_kind kind, const weir_op_constants* constants);
uint32_t weir_graph_op_in_place(weir_op_kind kind, const weir_op_constants* constants);

// The kernel of a target for an operation: the first that accepts the operands, or NULL.
const weir_kernel* weir_target_kernel(const weir_target* target, weir_op_kind op,
                                      const weir_kernel_use* use);

// Adds a checked operation and, where `result` is asked for, its value, of which kind, layout and
// rows are set. On failure the graph is as before.
WEIR_MUST_USE weir_status weir_graph_add_result(weir_graph* graph, const graph_op* op,
                                                const weir_value_info* info, weir_value* result);

// Checks that rows given by a parameter have its upper bound as their first dimension; `kind` and
// `name` are what messages call the value.
WEIR_MUST_USE weir_status weir_graph_check_rows(const weir_graph* graph, const char* kind,
                                                const char* name, const weir_shape* shape,
                                                weir_param rows);

// Adds a checked operation. With a `result` also its value: f32 [rows of `leader`, width], whose
// rows follow the same parameter as those of `leader`. On failure the graph is as before.
WEIR_MUST_USE weir_status weir_graph_add_op(weir_graph* graph, const graph_op* op,
                                            weir_value leader, int64_t width, weir_value* result);

#endif
