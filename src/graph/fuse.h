// The operations of a graph as they are lowered: single ones, and those that a rewrite of
// weir/fusion.h put in the place of several.
#ifndef WEIR_GRAPH_FUSE_H
#define WEIR_GRAPH_FUSE_H

#include <weir/fusion.h>

#include "graph/graph.h"

#define FUSED_OPS 5 // most that one step stands for

typedef struct graph_step {
    graph_op op;
    uint32_t sources[FUSED_OPS]; // the operations of the graph that it stands for, rising
    uint32_t source_count;
} graph_step;

typedef struct graph_steps {
    graph_step* items;
    size_t count, capacity;
    uint32_t fusions[WEIR_FUSION_COUNT]; // rewrites made
} graph_steps;

// Lists the steps of a graph on a target, without the rewrites whose bits are set in `without`.
// Release the list with array_free, on failure too.
WEIR_MUST_USE weir_status weir_graph_fuse(const weir_allocator* allocator, const weir_graph* graph,
                                          const weir_target* target, uint32_t without,
                                          graph_steps* steps);

// The last rewrites, of steps that the others have made: takes norms into the products that read
// them (fuse_norm.c). An operation in `sources` of several steps is one that each of them computes.
WEIR_MUST_USE weir_status weir_graph_fuse_norms(const weir_allocator* allocator,
                                                const weir_graph* graph, const weir_target* target,
                                                uint32_t without, graph_steps* steps);

// Whether a target has a kernel for an operation on these values.
bool weir_graph_has_kernel(const weir_graph* graph, const weir_target* target, const graph_op* op);

#endif
