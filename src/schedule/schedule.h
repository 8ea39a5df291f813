// Inside a schedule: what lowering, ordering, planning and checking hand to each other.
//
//   lower.c      graph -> dispatches with operands and declared ranges, scratch values
//   dag.c        order -> edges -> ancestors of each dispatch, reduced edges, levels
//   conflicts.c  ancestors -> which values may share bytes -> plan -> placements
//   residual.c   placements -> edges that sharing bytes still needs
//   check.c      placements + edges -> proof that nothing unordered shares a byte
//
// A plan file takes the place of the search for an order and of planning (schedule_given); all that
// follows from them is derived and checked as ever.
#ifndef WEIR_SCHEDULE_SCHEDULE_H
#define WEIR_SCHEDULE_SCHEDULE_H

#include <weir/schedule.h>

#include "base/array.h"
#include "graph/graph.h"
#include "plan/plan_adopt.h"

// Rows that one pass touches: `fixed` and the sum of the parameters, each WEIR_PARAM_NONE or one.
typedef struct schedule_rows {
    uint64_t row_bytes;
    uint64_t fixed;
    weir_param params[2];
} schedule_rows;

typedef struct schedule_operand {
    weir_value value; // as the operation names it
    weir_value root;  // whose bytes it is a window of
    weir_param rows;  // gives dims[0] of each pass, or WEIR_PARAM_NONE
    weir_access_kind kind;
    weir_view layout;      // at the upper bounds; byte_offset within the root
    weir_range extent;     // bytes touched under any parameters; memory_id = root + 1
    schedule_rows touched; // how many of them
} schedule_operand;

typedef struct schedule_dispatch {
    const char* name; // in weir_schedule.names
    weir_op_kind op;
    const weir_kernel* kernel;
    weir_op_constants constants;
    uint32_t operand_begin; // in weir_schedule.operands
    uint32_t operand_count;
    uint32_t level;
} schedule_dispatch;

// Predecessors of dispatch i are items[begins[i]] .. items[begins[i + 1] - 1].
typedef struct schedule_edges {
    uint32_t* items;
    size_t count, capacity;
    uint32_t* begins; // dispatch_count + 1
} schedule_edges;

// The dispatches that touch value v, rising: items[begins[v]] .. items[begins[v + 1] - 1].
typedef struct schedule_uses {
    uint32_t* items;
    size_t count, capacity;
    uint32_t* begins; // value_count + 1
} schedule_uses;

typedef struct schedule_bits {
    uint64_t* words; // `rows` rows of `row_words`
    size_t rows, row_words;
} schedule_bits;

// What was searched for and planned before; borrowed while a schedule is made.
typedef struct schedule_given {
    const uint32_t* order; // per position: the dispatch, numbered as lowered
    uint32_t dispatch_count;
    const weir_plan_entry* entries; // per buffer of the plan
    uint32_t entry_count;
    plan_claims claims;
    uint64_t serial_bytes;
} schedule_given;

struct weir_schedule {
    weir_allocator allocator;
    weir_schedule_options options;
    const schedule_given* given; // NULL: order and plan are made; NULL in a finished schedule
    weir_target target;
    struct {
        weir_value_info* items; // those of the graph, then scratch
        size_t count, capacity;
    } values;
    struct {
        weir_param_info* items;
        size_t count, capacity;
    } params;
    struct {
        schedule_dispatch* items;
        size_t count, capacity;
    } dispatches;
    struct {
        schedule_operand* items;
        size_t count, capacity;
    } operands;
    struct {
        char* items;
        size_t count, capacity;
    } names;
    weir_value graph_value_count; // values from here on are scratch
    schedule_uses uses;           // by root value
    schedule_edges edges;
    schedule_bits ancestors;    // bit (i, j): dispatch j surely completes before i starts
    weir_placement* placements; // one per value
    uint32_t* buffers;          // plan buffer of each value, or WEIR_PLAN_NONE
    struct {
        weir_plan_buffer* items;
        size_t count, capacity;
    } plan_buffers;
    struct {
        weir_plan_interval* items;
        size_t count, capacity;
    } plan_intervals;
    struct {
        weir_plan_in_place* items;
        size_t count, capacity;
    } plan_pairs;
    schedule_bits precedes;
    weir_plan* plan;
    weir_schedule_report report;
};

static inline const uint32_t* schedule_uses_of(const weir_schedule* schedule, weir_value value,
                                               uint32_t* count) {
    *count = schedule->uses.begins[value + 1] - schedule->uses.begins[value];
    return schedule->uses.items + schedule->uses.begins[value];
}

static inline bool schedule_bit(const schedule_bits* bits, size_t row, size_t column) {
    return (bits->words[row * bits->row_words + column / 64] >> (column % 64)) & 1;
}

static inline void schedule_bit_set(schedule_bits* bits, size_t row, size_t column) {
    bits->words[row * bits->row_words + column / 64] |= UINT64_C(1) << (column % 64);
}

WEIR_MUST_USE weir_status weir_schedule_bits_new(const weir_allocator* allocator, size_t rows,
                                                 size_t columns, schedule_bits* bits);
void weir_schedule_bits_free(const weir_allocator* allocator, schedule_bits* bits);

// The halves of weir_schedule_create: an empty schedule, then everything else.
WEIR_MUST_USE weir_status weir_schedule_begin(const weir_allocator* allocator,
                                              const weir_target* target,
                                              const weir_schedule_options* options,
                                              weir_schedule** schedule);
WEIR_MUST_USE weir_status weir_schedule_finish(weir_schedule* schedule);

WEIR_MUST_USE weir_status weir_schedule_lower(weir_schedule* schedule, const weir_graph* graph);
WEIR_MUST_USE weir_status weir_schedule_find_uses(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_order(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_close(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_place_values(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_add_residual(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_check_tracked(const weir_schedule* schedule);

// The two halves of weir_schedule_check.
WEIR_MUST_USE weir_status weir_schedule_check_plan(const weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_check_pairs(const weir_schedule* schedule);

// The plan problem that the schedule's arrays describe; valid as long as the schedule.
weir_plan_problem weir_schedule_problem(const weir_schedule* schedule);

// The bytes that an operand touches, where its value was placed; empty for weights.
weir_range weir_schedule_placed_range(const weir_schedule* schedule,
                                      const schedule_operand* operand);

#endif
