// The operations of a graph as they are lowered: single ones, and those that a rewrite of
// weir/fusion.h put in the place of several.
#ifndef WEIR_GRAPH_FUSE_H
#define WEIR_GRAPH_FUSE_H

#include <weir/fusion.h>

#include "graph/graph.h"

#define FUSED_OPS 3 // most that one rewrite replaces

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

#endif
