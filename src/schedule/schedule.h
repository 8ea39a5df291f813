// Inside a schedule: what lowering, ordering, planning and checking hand to each other.
//
//   lower.c      graph, fused -> dispatches with operands and declared ranges, scratch values
//   dag.c        the flow of data -> edges -> ancestors of each dispatch, reduced edges, levels
//   groups.c     which dispatches run between the same boundaries, and their numbers by group
//   order_*.c    the searches that choose these groups (order.h)
//   values.c     which values may lie where: lifetimes, pairs in place -> plan -> placements
//   conflicts.c  ancestors -> which buffers precede which
//   residual.c   placements -> edges that sharing bytes still needs
//   budget.c     one schedule after another until the bytes fit; the curve of bytes and waits
//   check.c      placements + edges -> proof that nothing unordered shares a byte
//
// A plan file takes the place of the search for groups and of planning (schedule_given); all that
// follows from them is derived and checked as ever.
#ifndef WEIR_SCHEDULE_SCHEDULE_H
#define WEIR_SCHEDULE_SCHEDULE_H

#include <weir/explain.h>
#include <weir/schedule.h>

#include "base/array.h"
#include "graph/fuse.h"
#include "plan/plan_adopt.h"

// Rows that one pass touches: `fixed` and the sum of the parameters, each WEIR_PARAM_NONE or one.
typedef struct schedule_rows {
    uint64_t row_bytes;
    uint64_t fixed;
    weir_param params[2];
    weir_param first; // gives the first of them; WEIR_PARAM_NONE: row 0
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
    uint32_t source_begin; // in weir_schedule.sources
    uint32_t source_count;
    uint32_t level;      // edges on the longest path that ends here
    uint32_t group;      // boundaries before it
    uint32_t planned;    // its group when values were placed
    uint32_t given;      // its place among the dispatches as lowered
    uint32_t output;     // the operand that it writes first: its result, or a state
    uint32_t overwrites; // bit i: `output` may lie on input i once nothing else needs that
} schedule_dispatch;

// Predecessors of dispatch i are items[begins[i]] .. items[begins[i + 1] - 1].
typedef struct schedule_edges {
    uint32_t* items;
    size_t count, capacity;
    uint32_t* begins; // dispatch_count + 1
} schedule_edges;

typedef struct schedule_edge {
    uint32_t from, to;
} schedule_edge;

// How the groups of a schedule are chosen.
typedef enum schedule_policy {
    SCHEDULE_EARLY = 0, // each dispatch as soon as the flow of data allows
    SCHEDULE_GIVEN = 1, // dispatches stay in the order of the graph
    SCHEDULE_DEPTH = 2, // as few groups as SCHEDULE_EARLY, with few live bytes
    SCHEDULE_CAP = 3,   // live bytes within a cap, then few groups
} schedule_policy;

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
    const uint32_t* groups; // of each dispatch as lowered, before edges were added
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
    schedule_policy policy;
    uint64_t cap; // SCHEDULE_CAP: the most live bytes, as far as any order found has so few
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
        weir_source_op* items;
        size_t count, capacity;
    } sources;
    struct {
        char* items;
        size_t count, capacity;
    } names;
    weir_value graph_value_count; // values from here on are scratch
    schedule_uses uses;           // by root value
    schedule_edges edges;
    struct {
        schedule_edge* items;
        size_t count, capacity;
    } residual; // edges that only the reuse of memory needs
    uint32_t group_count;
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
    uint64_t block_bytes_max; // of the plan; 0: it has one block
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

// Whether values lie in the same bytes only where the groups keep them apart: of edges, those that
// this needs are then added.
static inline bool schedule_by_groups(const weir_schedule* schedule) {
    return schedule->options.reuse == WEIR_REUSE_FREE &&
           (schedule->target.waits == WEIR_WAIT_GROUPS || schedule->policy >= SCHEDULE_DEPTH);
}

// Whether edges have to be added after planning, from which the groups then follow.
static inline bool schedule_has_residual(const weir_schedule* schedule) {
    return schedule->options.reuse == WEIR_REUSE_SERIAL || schedule->policy == SCHEDULE_CAP ||
           (schedule->target.waits == WEIR_WAIT_EDGES && schedule_by_groups(schedule));
}

WEIR_MUST_USE weir_status weir_schedule_lower(weir_schedule* schedule, const weir_graph* graph);
WEIR_MUST_USE weir_status weir_schedule_find_uses(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_find_edges(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_close(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_form_groups(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_settle(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_add_buffers(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_find_order(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_place_values(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_add_residual(weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_check_tracked(const weir_schedule* schedule);

// The two ends of making a schedule: an empty one, and all that comes after lowering.
WEIR_MUST_USE weir_status weir_schedule_begin(const weir_allocator* allocator,
                                              const weir_target* target,
                                              const weir_schedule_options* options,
                                              schedule_policy policy, weir_schedule** schedule);
WEIR_MUST_USE weir_status weir_schedule_finish(weir_schedule* schedule);

// Makes a schedule with one way of choosing groups.
WEIR_MUST_USE weir_status weir_schedule_build(const weir_allocator* allocator,
                                              const weir_graph* graph, const weir_target* target,
                                              const weir_schedule_options* options,
                                              schedule_policy policy, uint64_t cap,
                                              weir_schedule** schedule);

#define SCHEDULE_OPERANDS_MAX (GRAPH_OP_INPUTS + 3) // inputs, two outputs, scratch
#define SCHEDULE_REASONS_MAX (SCHEDULE_OPERANDS_MAX * SCHEDULE_OPERANDS_MAX)

// Fills in why one dispatch follows another: every two accesses that share a byte. Returns how many
// there are.
uint32_t weir_schedule_reasons(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                               weir_reason reasons[SCHEDULE_REASONS_MAX]);

// Whether an access of one dispatch to a value and one of another dispatch to another value share a
// byte where the values were placed, and one of the two writes. Windows of two values that share
// bytes may well lie apart.
bool weir_schedule_shares_bytes(const weir_schedule* schedule, uint32_t from, weir_value earlier,
                                uint32_t to, weir_value later);

// Records a dispatch where its operands were placed.
WEIR_MUST_USE weir_status weir_schedule_track(const weir_schedule* schedule, uint32_t dispatch,
                                              weir_tracker* tracker, weir_verdict* verdict);

// The two halves of weir_schedule_check.
WEIR_MUST_USE weir_status weir_schedule_check_plan(const weir_schedule* schedule);
WEIR_MUST_USE weir_status weir_schedule_check_pairs(const weir_schedule* schedule);

// The plan problem that the schedule's arrays describe; valid as long as the schedule.
weir_plan_problem weir_schedule_problem(const weir_schedule* schedule);

// The bytes that an operand touches, where its value was placed; empty for weights.
weir_range weir_schedule_placed_range(const weir_schedule* schedule,
                                      const schedule_operand* operand);

#endif
