// What the steps of planning hand to each other:
//
//     problem --check--> forest --merge in place--> classes --bound, place--> offsets --> plan
//
// The forest says which buffers share one block of bytes and where in it. A class is one such
// block: a root, its aliases, and what is placed in them; it is what gets an offset. Classes of one
// pool lie together, and pools are bounded and placed one by one.
#ifndef WEIR_PLAN_INTERNAL_H
#define WEIR_PLAN_INTERNAL_H

#include <weir/plan.h>

#include "plan/plan_scratch.h"

#define PLAN_LIMIT ((uint64_t)INT64_MAX) // no offset or sum of sizes passes it

typedef struct plan_forest {
    uint32_t* owner;     // per buffer: the root of its class
    uint64_t* within;    // per buffer: byte offset in the class
    uint32_t* next;      // per buffer: the next one of its class, in a ring
    uint32_t* placed_on; // per buffer: the one it is placed on, or WEIR_PLAN_NONE
    bool* taken;         // per buffer: one takes its bytes in place
    uint64_t* alignment; // per owner: of the class
} plan_forest;

typedef struct plan_class {
    uint64_t byte_size;
    uint64_t alignment;
    uint64_t fixed_offset; // where `fixed`
    uint64_t spread;       // time units it lives, or classes it conflicts with
    int64_t birth;         // first time unit, or how many classes precede it
    int64_t death;         // intervals mode: one past its last time unit
    uint32_t first_span;   // intervals mode: its spans, rising and apart
    uint32_t span_count;
    uint32_t pool;
    uint32_t owner; // buffer
    bool fixed;
} plan_class;

typedef struct plan_instance {
    plan_class* classes; // by pool, then by owner
    uint32_t class_count;
    uint32_t* class_of;        // per buffer: its class, or WEIR_PLAN_NONE when it has no bytes
    weir_plan_interval* spans; // intervals mode
    uint64_t* precedes;        // partial order mode, else NULL: one row per class
    uint64_t* follows;         // the same, transposed
    uint64_t* conflicts;       // partial order mode: one row per class
    uint32_t row_words;
} plan_instance;

struct weir_plan {
    weir_allocator allocator;
    weir_plan_entry* entries;
    uint32_t count;
    weir_plan_result result;
};

// Makes a plan of entries, which are copied.
WEIR_MUST_USE weir_status plan_make(const weir_allocator* allocator, const weir_plan_entry* entries,
                                    uint32_t count, const weir_plan_result* result,
                                    weir_plan** plan);

static inline bool row_has(const uint64_t* row, uint32_t index) {
    return row[index / 64] >> (index % 64) & 1;
}

static inline void row_set(uint64_t* row, uint32_t index) {
    row[index / 64] |= (uint64_t)1 << (index % 64);
}

// Checks everything that the planner relies on.
WEIR_MUST_USE weir_status plan_check(plan_scratch* scratch, const weir_plan_problem* problem);

// The alignment that a buffer asks for by itself, at least 1.
uint64_t plan_own_alignment(const weir_plan_problem* problem, uint32_t index);

// Computes the least common multiple; false when it passes the limit.
bool plan_common_multiple(uint64_t a, uint64_t b, uint64_t* multiple);

// The rule of the problem, for two of its buffers.
bool plan_buffers_conflict(const weir_plan_problem* problem, uint32_t a, uint32_t b);

// Makes the forest of roots and aliases, nothing placed on anything.
WEIR_MUST_USE weir_status plan_forest_make(plan_scratch* scratch, const weir_plan_problem* problem,
                                           plan_forest* forest);

// Places a buffer on another where geometry and conflicts allow it; false when they do not.
bool plan_forest_merge(plan_forest* forest, const weir_plan_problem* problem,
                       const weir_plan_in_place* pair);

// Makes the classes of a forest.
WEIR_MUST_USE weir_status plan_instance_make(plan_scratch* scratch,
                                             const weir_plan_problem* problem,
                                             const plan_forest* forest, plan_instance* instance);

// Fills the rows of an instance in partial order mode; the classes are listed.
WEIR_MUST_USE weir_status plan_rows_make(plan_scratch* scratch, const weir_plan_problem* problem,
                                         const plan_forest* forest, plan_instance* instance);

// Tells whether any spans of two classes meet.
bool plan_spans_meet(const plan_instance* instance, const plan_class* a, const plan_class* b);

// Tells whether two different classes conflict.
static inline bool plan_classes_conflict(const plan_instance* instance, uint32_t a, uint32_t b) {
    if (instance->conflicts) {
        return row_has(instance->conflicts + (size_t)a * instance->row_words, b);
    }
    const plan_class* first = &instance->classes[a];
    const plan_class* second = &instance->classes[b];
    return first->birth < second->death && second->birth < first->death &&
           ((first->span_count == 1 && second->span_count == 1) ||
            plan_spans_meet(instance, first, second));
}

// Computes bytes that any placement of classes [first, first + count) needs.
WEIR_MUST_USE weir_status plan_bound(plan_scratch* scratch, const plan_instance* instance,
                                     uint32_t first, uint32_t count, uint64_t* bound);

// Tells whether classes lose nothing: no buffer may be placed on another, and none is outlived by
// an alias of a part of it. What is proven of classes is then proven of the problem.
bool plan_classes_are_exact(const weir_plan_problem* problem);

// Computes bytes that any placement needs, over all pools, also where classes are not exact; 0
// where finding out would take too long.
WEIR_MUST_USE weir_status plan_bound_best_case(plan_scratch* scratch,
                                               const weir_plan_problem* problem, uint64_t* bound);

// Computes a bound that may be lower, in partial order mode and in far less time.
WEIR_MUST_USE weir_status plan_bound_quick(plan_scratch* scratch, const plan_instance* instance,
                                           uint32_t first, uint32_t count, uint64_t* bound);

// Computes a bound on the sum of the heights of any number of blocks.
WEIR_MUST_USE weir_status plan_bound_split(plan_scratch* scratch, const plan_instance* instance,
                                           uint32_t first, uint32_t count, uint64_t* bound);

// Computes how many blocks of `cap` bytes (>= 1) any placement needs, fixed offsets aside.
WEIR_MUST_USE weir_status plan_bound_blocks(plan_scratch* scratch, const plan_instance* instance,
                                            uint32_t first, uint32_t count, uint64_t cap,
                                            uint32_t* blocks);

#endif
