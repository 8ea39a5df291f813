// Inside a program: what its files share.
//
//   program.c        creation, destruction, the arrays of slots
//   program_bind.c   which memory a value has: judging, resolving and replacing bindings
//   program_alias.c  bindings that share bytes: which order they need, and when none will do
//   program_run.c    inputs, passes, outputs
//
// A slot is everything that one pass in flight has to itself: inputs, outputs, parameters, and the
// dispatches with their addresses. Pass n uses slot n % slot_count.
#ifndef WEIR_DEVICE_PROGRAM_H
#define WEIR_DEVICE_PROGRAM_H

#include <stdio.h>
#include <weir/program.h>

#include "device/backend.h"
#include "schedule/schedule.h"

// Bytes that the accesses of a pass declare: a sum over its parameters, because the bytes of each
// access grow by whole rows.
typedef struct program_traffic {
    uint64_t bytes_read, bytes_written;
} program_traffic;

// The order of a slot where its bindings share bytes: dispatch numbers[i] of the schedule comes at
// position i and waits for the positions edges[begins[i]] .. edges[begins[i + 1] - 1], also where
// the schedule has groups.
typedef struct program_order {
    uint32_t* numbers; // NULL: the order of the schedule
    uint32_t* begins;  // count + 1
    struct {
        uint32_t* items;
        size_t count, capacity;
    } edges;
    uint32_t waits; // edges on the longest path
} program_order;

typedef struct program_slot {
    weir_storage* memory;        // inputs, then outputs; reachable by the host
    weir_view* bound;            // per value: where it lies; storages are retained
    device_dispatch* dispatches; // in the order of the pass
    weir_view* views;            // per operand of the schedule
    void** pointers;             // per operand
    weir_access* accesses;       // per operand
    access_array touched;        // of the pass, reduced, by every name; without constant memory
    uint64_t* params;            // the parameter block of the last pass
    uint64_t* written;           // per value: bytes of an input that were written for the next pass
    program_order order;
    bool aliased; // bindings share bytes
    device_work* work;
    weir_ticket ticket; // of the last pass
    uint64_t version;   // of the bindings that it has
} program_slot;

typedef struct program_block {
    weir_storage* storage; // retained
} program_block;

struct weir_program {
    weir_device* device;
    const weir_schedule* schedule;
    weir_arena* own_arena; // NULL when the arena is shared
    struct {
        program_block* items; // of the arena
        size_t count, capacity;
    } blocks;
    weir_view* bound;      // per value what the caller bound; storages are retained. No storage:
                           // memory of the program
    weir_view* wanted;     // the same, but for what is being judged; not retained
    weir_value* bindables; // the values in use that can be bound
    uint32_t bindable_count;
    weir_value* changed; // scratch: those that lie elsewhere
    weir_value*
        checked; // of the bindables, what each commit looks at: inputs, and what the caller bound
    uint32_t checked_count;
    uint32_t* state_operands; // the numbers of those in states
    uint32_t state_operand_count;
    uint32_t* places; // the operands in the arena, then the others
    uint32_t inside_count;
    access_array arena_touched; // what passes touch in the arena, reduced
    weir_param* rows;           // per operand
    uint32_t* numbers;          // per dispatch its number, of which groups are runs
    program_slot* slots;
    uint32_t slot_count;
    access_array names[2]; // scratch: of two values that are compared
    uint64_t passes;       // committed so far
    uint64_t version;      // counts changes of `bound`
    bool timing;
    weir_counters counters;
    program_traffic fixed_traffic;  // of every pass
    program_traffic* param_traffic; // per parameter: added for each unit of it
};

// program.c

// Makes a slot for some bindings, with `memory`, which is retained.
//
// Errors: WEIR_INVALID_ARGUMENT bindings share bytes and no order helps.
WEIR_MUST_USE weir_status program_slot_make(weir_program* program, const weir_view* bound,
                                            weir_storage* memory, program_slot* slot);
void program_slot_free(weir_program* program, program_slot* slot);

// Replaces bindings by those of `wanted`, and counts that.
void program_take_wanted(weir_program* program, const weir_binding* bindings, uint32_t count);

static inline bool program_is_used(const weir_program* program, weir_value value) {
    uint32_t uses = 0;
    schedule_uses_of(program->schedule, value, &uses);
    return uses > 0;
}

static inline const weir_value_info* program_value(const weir_program* program, weir_value value) {
    return &program->schedule->values.items[value];
}

#define PROGRAM_LABEL_BYTES 24

// Returns what messages call a value: its name or, where it has none, its number.
static inline const char* program_label_in(const weir_program* program, weir_value value,
                                           char text[PROGRAM_LABEL_BYTES]) {
    const char* name = program_value(program, value)->name;
    if (name[0] != '\0') {
        return name;
    }
    snprintf(text, PROGRAM_LABEL_BYTES, "value %u", value);
    return text;
}

// The text holds until the end of the block that asks for it.
#define program_label(program, value)                                                              \
    program_label_in((program), (value), (char[PROGRAM_LABEL_BYTES]){0})

// Tells whether passes write a value that can be bound.
static inline bool program_writes(const weir_program* program, weir_value value) {
    const weir_value_kind kind = program_value(program, value)->kind;
    return kind == WEIR_VALUE_STATE || kind == WEIR_VALUE_RESULT;
}

// program_bind.c

// Checks bindings and enters them in `wanted`.
WEIR_MUST_USE weir_status program_want(weir_program* program, const weir_binding* bindings,
                                       uint32_t count);

// Where a value lies in a slot with these bindings: storage, offset, and dims[0] of its rows.
weir_view program_base(const weir_program* program, const weir_view* bound, weir_storage* memory,
                       weir_value value);

// Tells whether two bases are the same bytes and as many rows.
bool program_same_base(const weir_view* a, const weir_view* b);

// Fills in the addresses and accesses of all operands of a slot with these bindings.
WEIR_MUST_USE weir_status program_resolve(weir_program* program, const weir_view* bound,
                                          program_slot* slot);

// Gives a slot that is not in flight the bindings of the program, where it has older ones.
WEIR_MUST_USE weir_status program_sync(weir_program* program, program_slot* slot);

// program_alias.c

// Tells whether bindings share bytes in a slot with `memory` so that order matters. With `before`,
// a slot in which none do, only pairs are looked at of which one lies elsewhere there.
//
// Errors: WEIR_INVALID_ARGUMENT no order helps; both values are named.
WEIR_MUST_USE weir_status program_find_alias(weir_program* program, const weir_view* bound,
                                             weir_storage* memory, const program_slot* before,
                                             bool* aliased);

// Finds the order of a slot whose operands are resolved and whose bindings share bytes.
//
// Errors: WEIR_INVALID_ARGUMENT as above; WEIR_OUT_OF_MEMORY.
WEIR_MUST_USE weir_status program_find_order(weir_program* program, program_slot* slot);
void program_order_free(const weir_program* program, program_order* order);

#endif
