// Schedules: what must wait for what, and where every value lies. Pure: made for a target, no
//            device.
//
//     graph -> fusion -> lowering to the target -> accesses on values -> DAG -> conflicts -> plan
//           -> edges that reuse of memory still needs (none in the default mode) -> schedule
//
// In the default mode two values share bytes only where the order that the device enforces anyway
// already keeps them apart: planning memory never adds a wait. A schedule is checked when it is
// made: the tracker runs over the placed ranges and must find nothing that the edges do not order.
//
//     weir_schedule_create(NULL, graph, &target, NULL, &schedule);
//     const weir_schedule_report* report = weir_schedule_report_of(schedule);
#ifndef WEIR_SCHEDULE_H
#define WEIR_SCHEDULE_H

#include <weir/fusion.h>
#include <weir/plan.h>
#include <weir/target.h>
#include <weir/tracker.h>

WEIR_C_BEGIN

typedef struct weir_schedule weir_schedule;

typedef enum weir_reuse {
    WEIR_REUSE_FREE = 0,   // share bytes wherever that adds no wait
    WEIR_REUSE_SERIAL = 1, // fewest bytes for the serial order; adds the waits that this needs
    WEIR_REUSE_NONE = 2,   // every value has bytes of its own
} weir_reuse;

typedef enum weir_order {
    WEIR_ORDER_WAITS = 0, // fewest waits, as many as the data flow needs; then fewest bytes
    WEIR_ORDER_BYTES = 1, // fewest bytes; then fewest waits
    WEIR_ORDER_GIVEN = 2, // dispatches stay in the order of the graph
} weir_order;

// Called at the end of each phase of making a schedule, with its name: for measuring.
typedef void (*weir_schedule_phase_fn)(void* context, const char* name);

// Orders are searched for within fixed budgets of steps: the same graph always gives the same
// schedule, and a smaller one may exist.
typedef struct weir_schedule_options {
    weir_reuse reuse;
    weir_order order;     // other than WAITS and GIVEN only with WEIR_REUSE_FREE
    uint64_t byte_budget; // most bytes of the arena, 0: any; where it needs them, waits and edges
                          // are added, few of them, and counted. Only with WEIR_REUSE_FREE
    bool fence_all;       // every dispatch waits for the one before it: the reference for elision
    bool never_in_place;  // no output on the bytes of an input
    uint32_t without_fusions;     // WEIR_FUSION_BITs of rewrites not to make; WEIR_FUSION_ALL: none
    uint64_t plan_iterations;     // as in weir_plan_problem
    weir_schedule_phase_fn phase; // may be NULL
    void* phase_context;
} weir_schedule_options;

// Counted as everywhere in weir: the waits of a pass are the edges on the longest path of the DAG,
// where boundaries wait the boundaries.
typedef struct weir_schedule_report {
    uint32_t ops;                        // of the graph
    uint32_t fusions[WEIR_FUSION_COUNT]; // rewrites made, by weir_fusion
    uint32_t dispatches;
    uint32_t edges;          // of the reduced DAG
    uint32_t residual_edges; // of these, needed only because memory is reused
    uint32_t waits_naive;    // with a wait between any two dispatches
    uint32_t depth;          // waits that the data flow alone needs: no order has fewer
    uint32_t waits;          // kept: edges on the longest path, or boundaries
    uint32_t waits_elided;   // waits_naive - waits
    uint32_t values;         // placed in the arena, scratch included
    uint32_t in_place;       // of these, on the bytes of an input
    uint64_t arena_bytes;    // of all blocks: what an arena for this plan takes
    uint32_t arena_blocks;   // 1 unless the target's storages are too small for that
    uint64_t bound_bytes;    // no plan for these conflicts can be smaller
    uint64_t total_bytes;    // without reuse
    uint64_t serial_bytes;   // what the serial order would need; its own plan
    uint64_t scratch_bytes;  // part of total_bytes
    uint64_t weight_bytes;   // bound from outside
    uint64_t state_bytes;    // bound from outside
    uint64_t input_bytes;    // of one slot
    uint64_t output_bytes;   // of one slot
    uint32_t widened_ranges; // accesses that their pattern over-states
} weir_schedule_report;

typedef enum weir_region {
    WEIR_REGION_ARENA = 0,
    WEIR_REGION_INPUT = 1,
    WEIR_REGION_OUTPUT = 2,
    WEIR_REGION_WEIGHT = 3,
    WEIR_REGION_STATE = 4,
} weir_region;

typedef struct weir_placement {
    weir_region region;
    uint32_t block;       // of the arena; 0 elsewhere
    uint64_t byte_offset; // within the region (the block): arena, inputs, outputs; 0 for weights
                          // and states
    uint64_t byte_size;   // at the upper bounds; 0 for a result that fusion left out
} weir_placement;

// An operation of the graph, as the dispatch that computes it remembers it.
typedef struct weir_source_op {
    weir_op_kind op;
    const char* name; // "mul blk.0.attn_in"; belongs to the schedule
} weir_source_op;

typedef struct weir_dispatch_info {
    const char* name; // "matmul blk.0.q", "rms_norm + mul blk.0.attn_in"; belongs to the schedule
    weir_op_kind op;
    const weir_kernel* kernel;
    const weir_source_op*
        sources; // what was fused, in the order of the graph, or the one operation
    uint32_t source_count;
    const uint32_t* predecessors; // numbers of earlier dispatches, reduced
    uint32_t predecessor_count;
    uint32_t level; // edges on the longest path that ends here
    uint32_t group; // where boundaries wait: those before it; else the level
} weir_dispatch_info;

// Lowers a graph to a target, orders it and plans its memory: in one block, or where that passes
// the largest storage of the target in several, none of which does.
//
// Ownership: the caller destroys it; graph and options are not kept, the target's kernels must
//            hold.
// Errors:    WEIR_UNSUPPORTED no kernel for an operation (named, with its types), or a value that
//            is larger than a storage of the target;
//            WEIR_INVALID_ARGUMENT no operations, or options that exclude each other;
//            WEIR_INFEASIBLE no order that was found fits the budget (the message says what fits);
//            WEIR_OUT_OF_RANGE sizes; WEIR_OUT_OF_MEMORY; WEIR_INTERNAL the check failed.
// Threads:   thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_create(const weir_allocator* allocator,
                                                        const weir_graph* graph,
                                                        const weir_target* target,
                                                        const weir_schedule_options* options,
                                                        weir_schedule** schedule);

// Destroys a schedule; NULL is a no-op. Programs made from it must be gone.
//
// Threads: thread-compatible.
WEIR_API void weir_schedule_destroy(weir_schedule* schedule);

// Return facts of a schedule; pointers belong to it.
//
// Errors:  WEIR_NOT_FOUND no such dispatch or value.
// Threads: thread-safe.
WEIR_API const weir_schedule_report* weir_schedule_report_of(const weir_schedule* schedule);
WEIR_API const weir_plan* weir_schedule_plan(const weir_schedule* schedule);
WEIR_API WEIR_MUST_USE weir_status weir_schedule_dispatch(const weir_schedule* schedule,
                                                          uint32_t dispatch,
                                                          weir_dispatch_info* info);
WEIR_API WEIR_MUST_USE weir_status weir_schedule_place(const weir_schedule* schedule,
                                                       weir_value value, weir_placement* placement);
WEIR_API const weir_value_info* weir_schedule_value(const weir_schedule* schedule,
                                                    weir_value value);

// Return the groups of a schedule whose target waits by boundaries: how many there are (0 where
// waits are edges), and the dispatches [begin, end) of one. A boundary stands between any two
// groups that follow each other, and nowhere else: boundary g before the first dispatch of group
// g, from 1. weir_boundary_visit (weir/explain.h) tells what needs each of them.
//
// Errors:  WEIR_NOT_FOUND no such group.
// Threads: thread-safe.
WEIR_API uint32_t weir_schedule_groups(const weir_schedule* schedule);
WEIR_API WEIR_MUST_USE weir_status weir_schedule_group(const weir_schedule* schedule,
                                                       uint32_t group, uint32_t* begin,
                                                       uint32_t* end);

// A point of the curve between bytes and waits.
typedef struct weir_tradeoff_point {
    weir_order order;     // with these two as options,
    uint64_t byte_budget; // this very schedule is made
    uint64_t arena_bytes;
    uint64_t bound_bytes; // of the order: no placement needs less
    uint32_t waits;
    uint32_t residual_edges; // edges that only the reuse of memory needs
} weir_tradeoff_point;

// Finds the curve between the bytes of the arena and waits: schedules of which none is better than
// another in bytes, waits and residual edges at once, from the most bytes to the fewest. Each is
// made and checked (weir_schedule_check). Of more points than fit, those with the most bytes are
// kept, and the one with the fewest. `options` may be NULL; order and budget in it are ignored.
//
// Errors:  those of weir_schedule_create; WEIR_INVALID_ARGUMENT another reuse than WEIR_REUSE_FREE,
//          or room for fewer than two points.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_tradeoff(const weir_allocator* allocator,
                                                          const weir_graph* graph,
                                                          const weir_target* target,
                                                          const weir_schedule_options* options,
                                                          weir_tradeoff_point* points,
                                                          uint32_t capacity, uint32_t* count);

// Proves the schedule again: the plan by the verifier, and every pair of dispatches whose placed
// ranges share a byte by the order of the edges or groups, which must be that of the graph where
// they touch one value. A dispatch of several operations may not read a state where it writes it.
//
// Errors:  WEIR_INTERNAL two dispatches are not ordered, both named with their ranges, or one is
//          not in itself;
//          WEIR_OUT_OF_MEMORY.
// Threads: thread-safe.
WEIR_API WEIR_MUST_USE weir_status weir_schedule_check(const weir_schedule* schedule);

WEIR_C_END

#endif
