// What bindings that share bytes mean. A schedule is made for values with memory of their own;
// where two of them share bytes, passes still give what they would give apart, as far as any order
// can:
//
//   input, written    every reader of the input comes before whoever writes to its bytes
//   state, state      as if all operations ran one after another, in the order of the graph, which
//                     fusion must have left visible
//   state, output     the same, and nothing writes to the bytes of the output after it
//   output, output    no order helps: both are read after the pass
//   weight, written   no order helps: the next pass reads the weight too
//
// A dispatch that reads the one and writes the other may do so where its operation could have been
// placed in place.
#include <stdio.h>
#include <string.h>

#include "device/program.h"

// Dispatch `to` of the schedule must come after `from`, because of two values.
typedef struct alias_edge {
    uint32_t from, to;
    weir_value from_value, to_value;
} alias_edge;

typedef struct alias_search {
    weir_program* program;
    const program_slot* slot;
    struct {
        alias_edge* items;
        size_t count, capacity;
    } edges;
} alias_search;

static bool is_kind(const weir_program* program, weir_value value, weir_value_kind kind) {
    return program_value(program, value)->kind == kind;
}

static const char* kind_name(const weir_program* program, weir_value value) {
    switch (program_value(program, value)->kind) {
    case WEIR_VALUE_INPUT:
        return "input";
    case WEIR_VALUE_WEIGHT:
        return "weight";
    case WEIR_VALUE_STATE:
        return "state";
    case WEIR_VALUE_RESULT:
    case WEIR_VALUE_VIEW:
        break;
    }
    return "output";
}

static weir_status refuse(const weir_program* program, weir_value a, weir_value b,
                          const char* reason) {
    return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%s %s and %s %s are bound to the same bytes: %s",
                     kind_name(program, a), program_label(program, a), kind_name(program, b),
                     program_label(program, b), reason);
}

// The bindings that are judged, of one slot.
typedef struct alias_subject {
    weir_program* program;
    const weir_view* bound;
    weir_storage* memory;
    const program_slot* before; // NULL: every pair is judged
} alias_subject;

// Lists the values that lie elsewhere than before, of all that can be bound.
static uint32_t list_changed(const alias_subject* subject) {
    weir_program* program = subject->program;
    uint32_t count = 0;
    for (uint32_t i = 0; i < program->bindable_count; i++) {
        const weir_value value = program->bindables[i];
        const weir_view base = program_base(program, subject->bound, subject->memory, value);
        if (!subject->before || !program_same_base(&base, &subject->before->bound[value])) {
            program->changed[count++] = value;
        }
    }
    return count;
}

// Judges one pair, of which `written` is written.
static weir_status judge(const alias_subject* subject, weir_value written, weir_value other,
                         bool* aliased) {
    weir_program* program = subject->program;
    const weir_view a = program_base(program, subject->bound, subject->memory, written);
    const weir_view b = program_base(program, subject->bound, subject->memory, other);
    if (!a.storage || !b.storage) {
        return WEIR_OK; // what is bound to nothing is refused elsewhere
    }
    bool shared = false;
    WEIR_TRY(identity_find_overlap(&a, &b, program->names, &shared));
    if (!shared) {
        return WEIR_OK;
    }
    if (is_kind(program, other, WEIR_VALUE_WEIGHT)) {
        return refuse(program, written, other, "a weight must outlive the pass");
    }
    if (is_kind(program, written, WEIR_VALUE_RESULT) &&
        is_kind(program, other, WEIR_VALUE_RESULT)) {
        return refuse(program, written, other, "both are read after the pass");
    }
    *aliased = true;
    return WEIR_OK;
}

weir_status program_find_alias(weir_program* program, const weir_view* bound, weir_storage* memory,
                               const program_slot* before, bool* aliased) {
    const alias_subject subject = {
        .program = program, .bound = bound, .memory = memory, .before = before};
    const uint32_t count = list_changed(&subject);
    for (uint32_t i = 0; i < count; i++) {
        const weir_value a = program->changed[i];
        // Where all are listed, those before this one have been judged.
        for (uint32_t k = before ? 0 : i + 1; k < program->bindable_count; k++) {
            const weir_value b = program->bindables[k];
            const bool a_written = program_writes(program, a);
            if (a != b && (a_written || program_writes(program, b))) {
                WEIR_TRY(judge(&subject, a_written ? a : b, a_written ? b : a, aliased));
            }
        }
    }
    return WEIR_OK;
}

static weir_status add_edge(alias_search* search, uint32_t from, uint32_t to, weir_value from_value,
                            weir_value to_value) {
    const weir_allocator* allocator = &search->program->device->allocator;
    WEIR_TRY(array_reserve(allocator, &search->edges, search->edges.count + 1));
    search->edges.items[search->edges.count++] =
        (alias_edge){.from = from, .to = to, .from_value = from_value, .to_value = to_value};
    return WEIR_OK;
}

// Whether a dispatch that reads operand `input` may overwrite it with operand `output`: the
// contract of the operation, for the same bytes in the same layout, read once.
static bool may_be_in_place(const alias_search* search, uint32_t number, uint32_t input,
                            uint32_t output) {
    const schedule_dispatch* dispatch = &search->program->schedule->dispatches.items[number];
    const schedule_operand* operands =
        search->program->schedule->operands.items + dispatch->operand_begin;
    const weir_view* a = &search->slot->views[dispatch->operand_begin + input];
    const weir_view* b = &search->slot->views[dispatch->operand_begin + output];
    const weir_range a_bytes = weir_view_range(a);
    const weir_range b_bytes = weir_view_range(b);
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        // The contract is about the first result.
        if ((i != input && operands[i].root == operands[input].root) ||
            (i < output && operands[i].kind != WEIR_ACCESS_READ)) {
            return false;
        }
    }
    return operands[input].kind == WEIR_ACCESS_READ && operands[output].kind == WEIR_ACCESS_WRITE &&
           ((weir_graph_op_in_place(dispatch->op, &dispatch->constants) >> input) & 1) != 0 &&
           operands[input].rows == operands[output].rows && a->dtype == b->dtype &&
           weir_shape_equal(&a->shape, &b->shape) && weir_view_is_contiguous(a) &&
           weir_view_is_contiguous(b) && a_bytes.memory_id == b_bytes.memory_id &&
           a_bytes.byte_offset == b_bytes.byte_offset;
}

// A dispatch of several operations does not tell at which of their places in the graph it reads or
// makes a value; writes to states stay where they were.
static bool has_place(const schedule_dispatch* dispatch, const schedule_operand* operand,
                      const weir_program* program) {
    return dispatch->source_count == 1 || (is_kind(program, operand->root, WEIR_VALUE_STATE) &&
                                           operand->kind == WEIR_ACCESS_WRITE);
}

// Orders two accesses, of different values, that share bytes and of which one writes.
static weir_status order_pair(alias_search* search, uint32_t a_number, uint32_t a,
                              uint32_t b_number, uint32_t b) {
    const weir_program* program = search->program;
    const weir_schedule* schedule = program->schedule;
    const schedule_dispatch* a_dispatch = &schedule->dispatches.items[a_number];
    const schedule_dispatch* b_dispatch = &schedule->dispatches.items[b_number];
    const schedule_operand* x = &schedule->operands.items[a_dispatch->operand_begin + a];
    const schedule_operand* y = &schedule->operands.items[b_dispatch->operand_begin + b];
    if (a_number == b_number) {
        char reason[128];
        snprintf(reason, sizeof reason, "%.60s reads the one while it writes to the other",
                 a_dispatch->name);
        return may_be_in_place(search, a_number, a, b) || may_be_in_place(search, a_number, b, a)
                   ? WEIR_OK
                   : refuse(program, x->root, y->root, reason);
    }
    bool a_first = a_dispatch->given < b_dispatch->given; // in the order of the graph
    if (is_kind(program, x->root, WEIR_VALUE_INPUT) ||
        is_kind(program, y->root, WEIR_VALUE_INPUT)) {
        a_first = is_kind(program, x->root, WEIR_VALUE_INPUT);
    } else if (!has_place(a_dispatch, x, program) || !has_place(b_dispatch, y, program)) {
        return refuse(program, x->root, y->root, "operations on them were fused");
    } else {
        const schedule_operand* later = a_first ? y : x;
        const schedule_operand* earlier = a_first ? x : y;
        if (is_kind(program, earlier->root, WEIR_VALUE_RESULT) &&
            (later->kind & WEIR_ACCESS_WRITE) != 0) {
            return refuse(program, earlier->root, later->root,
                          "the output would be overwritten within the pass");
        }
    }
    return a_first ? add_edge(search, a_number, b_number, x->root, y->root)
                   : add_edge(search, b_number, a_number, y->root, x->root);
}

// Lists what an operand touches, by every name.
static weir_status list_names(alias_search* search, size_t operand, access_array* names) {
    const weir_value root = search->program->schedule->operands.items[operand].root;
    names->count = 0;
    WEIR_TRY(array_reserve(&search->program->device->allocator, names, 1));
    names->items[names->count++] = search->slot->accesses[operand];
    return identity_append_names(search->slot->bound[root].storage, 0, names);
}

// Whether two operands share a byte, by whatever names.
static weir_status find_shared(alias_search* search, size_t a, size_t b, bool* shared) {
    access_array* names = search->program->names;
    WEIR_TRY(list_names(search, a, &names[0]));
    WEIR_TRY(list_names(search, b, &names[1]));
    *shared = false;
    for (size_t i = 0; i < names[0].count; i++) {
        for (size_t j = 0; j < names[1].count; j++) {
            *shared =
                *shared || weir_range_overlaps(&names[0].items[i].range, &names[1].items[j].range);
        }
    }
    return WEIR_OK;
}

// Orders what two dispatches do to bytes that two values share.
static weir_status order_dispatches(alias_search* search, weir_value first, weir_value second,
                                    uint32_t a_number, uint32_t b_number) {
    const weir_schedule* schedule = search->program->schedule;
    const schedule_dispatch* a = &schedule->dispatches.items[a_number];
    const schedule_dispatch* b = &schedule->dispatches.items[b_number];
    const schedule_operand* operands = schedule->operands.items;
    for (uint32_t i = 0; i < a->operand_count; i++) {
        for (uint32_t j = 0; j < b->operand_count; j++) {
            const schedule_operand* x = &operands[a->operand_begin + i];
            const schedule_operand* y = &operands[b->operand_begin + j];
            if (x->root != first || y->root != second ||
                ((x->kind | y->kind) & WEIR_ACCESS_WRITE) == 0) {
                continue;
            }
            bool shared = false;
            WEIR_TRY(find_shared(search, a->operand_begin + i, b->operand_begin + j, &shared));
            if (shared) {
                WEIR_TRY(order_pair(search, a_number, i, b_number, j));
            }
        }
    }
    return WEIR_OK;
}

static weir_status order_values(alias_search* search, weir_value first, weir_value second) {
    const weir_schedule* schedule = search->program->schedule;
    uint32_t a_count = 0;
    uint32_t b_count = 0;
    const uint32_t* a = schedule_uses_of(schedule, first, &a_count);
    const uint32_t* b = schedule_uses_of(schedule, second, &b_count);
    for (uint32_t i = 0; i < a_count; i++) {
        for (uint32_t j = 0; j < b_count; j++) {
            WEIR_TRY(order_dispatches(search, first, second, a[i], b[j]));
        }
    }
    return WEIR_OK;
}

static weir_status find_edges(alias_search* search) {
    weir_program* program = search->program;
    for (uint32_t i = 0; i < program->bindable_count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            const weir_value first = program->bindables[i];
            const weir_value second = program->bindables[k];
            if (!program_writes(program, first) && !program_writes(program, second)) {
                continue;
            }
            bool shared = false;
            WEIR_TRY(identity_find_overlap(&search->slot->bound[first],
                                           &search->slot->bound[second], program->names, &shared));
            if (shared) {
                WEIR_TRY(order_values(search, first, second));
            }
        }
    }
    return WEIR_OK;
}

// Whether everything that a dispatch must come after is placed; `blocking`, where it has none yet,
// gets the edge between values that share bytes that is in the way.
static bool is_ready(const alias_search* search, const uint32_t* positions, uint32_t number,
                     const alias_edge** blocking) {
    const schedule_edges* edges = &search->program->schedule->edges;
    for (uint32_t e = edges->begins[number]; e < edges->begins[number + 1]; e++) {
        if (positions[edges->items[e]] == UINT32_MAX) {
            return false;
        }
    }
    for (size_t e = 0; e < search->edges.count; e++) {
        const alias_edge* edge = &search->edges.items[e];
        if (edge->to == number && positions[edge->from] == UINT32_MAX) {
            *blocking = *blocking ? *blocking : edge;
            return false;
        }
    }
    return true;
}

// The first dispatch from `first` on, which is not placed, that can come next; the number of
// dispatches where there is none. Where boundaries wait, values share memory because their groups
// keep them apart: a group is finished before the next one begins.
static uint32_t find_next(const alias_search* search, const uint32_t* positions, uint32_t first,
                          const alias_edge** blocking) {
    const weir_schedule* schedule = search->program->schedule;
    const schedule_dispatch* dispatches = schedule->dispatches.items;
    const bool by_groups = schedule->target.waits == WEIR_WAIT_GROUPS;
    for (uint32_t i = first; i < schedule->dispatches.count; i++) {
        if (by_groups && dispatches[i].group != dispatches[first].group) {
            break;
        }
        if (positions[i] == UINT32_MAX && is_ready(search, positions, i, blocking)) {
            return i;
        }
    }
    return (uint32_t)schedule->dispatches.count;
}

// Numbers the dispatches so that each comes after all that it must (Kahn 1962), otherwise in the
// order of the schedule. The first that is not placed waits for none of the schedule's edges: where
// nothing can come next, it is an edge between values that share bytes that blocks it.
static weir_status number_dispatches(const alias_search* search, program_order* order,
                                     uint32_t* positions) {
    const schedule_dispatch* dispatches = search->program->schedule->dispatches.items;
    const uint32_t count = (uint32_t)search->program->schedule->dispatches.count;
    uint32_t first = 0;
    memset(positions, 0xFF, count * sizeof *positions);
    for (uint32_t placed = 0; placed < count; placed++) {
        const alias_edge* blocking = NULL;
        while (positions[first] != UINT32_MAX) {
            first++;
        }
        const uint32_t next = find_next(search, positions, first, &blocking);
        if (next == count) {
            char reason[128];
            snprintf(reason, sizeof reason, "%.50s would have to run before %.50s",
                     dispatches[blocking->from].name, dispatches[blocking->to].name);
            return refuse(search->program, blocking->from_value, blocking->to_value, reason);
        }
        positions[next] = placed;
        order->numbers[placed] = next;
    }
    return WEIR_OK;
}

// Adds a predecessor of the dispatch at position `to`, once.
static weir_status push_edge(const weir_program* program, program_order* order, uint32_t to,
                             uint32_t position) {
    for (size_t e = order->begins[to]; e < order->edges.count; e++) {
        if (order->edges.items[e] == position) {
            return WEIR_OK;
        }
    }
    WEIR_TRY(array_reserve(&program->device->allocator, &order->edges, order->edges.count + 1));
    order->edges.items[order->edges.count++] = position;
    return WEIR_OK;
}

// What the dispatch at `position` waits for: where boundaries wait, simply for the one before it.
static weir_status list_edges(const alias_search* search, program_order* order,
                              const uint32_t* positions, uint32_t position) {
    const weir_program* program = search->program;
    const weir_schedule* schedule = program->schedule;
    const uint32_t number = order->numbers[position];
    if (schedule->target.waits == WEIR_WAIT_GROUPS) {
        return position > 0 ? push_edge(program, order, position, position - 1) : WEIR_OK;
    }
    for (uint32_t e = schedule->edges.begins[number]; e < schedule->edges.begins[number + 1]; e++) {
        WEIR_TRY(push_edge(program, order, position, positions[schedule->edges.items[e]]));
    }
    for (size_t e = 0; e < search->edges.count; e++) {
        if (search->edges.items[e].to == number) {
            WEIR_TRY(push_edge(program, order, position, positions[search->edges.items[e].from]));
        }
    }
    return WEIR_OK;
}

// Fills in edges and waits; `levels` is of the length of the order.
static weir_status make_edges(const alias_search* search, program_order* order,
                              const uint32_t* positions, uint32_t* levels) {
    const uint32_t count = (uint32_t)search->program->schedule->dispatches.count;
    order->waits = 0;
    WEIR_TRY(array_reserve(&search->program->device->allocator, &order->edges, 1));
    for (uint32_t i = 0; i < count; i++) {
        order->begins[i] = (uint32_t)order->edges.count;
        WEIR_TRY(list_edges(search, order, positions, i));
        levels[i] = 0;
        for (size_t e = order->begins[i]; e < order->edges.count; e++) {
            const uint32_t above = levels[order->edges.items[e]] + 1;
            levels[i] = above > levels[i] ? above : levels[i];
        }
        order->waits = levels[i] > order->waits ? levels[i] : order->waits;
    }
    order->begins[count] = (uint32_t)order->edges.count;
    return WEIR_OK;
}

static weir_status make_order(const alias_search* search, program_order* order) {
    const weir_allocator* allocator = &search->program->device->allocator;
    const size_t count = search->program->schedule->dispatches.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(allocator, count * sizeof(uint32_t), &memory));
    order->numbers = memory;
    WEIR_TRY(weir_alloc_zeroed(allocator, (count + 1) * sizeof(uint32_t), &memory));
    order->begins = memory;
    WEIR_TRY(weir_alloc_zeroed(allocator, 2 * count * sizeof(uint32_t), &memory));
    uint32_t* positions = memory;
    weir_status status = number_dispatches(search, order, positions);
    if (status == WEIR_OK) {
        status = make_edges(search, order, positions, positions + count);
    }
    weir_free(allocator, memory, 2 * count * sizeof(uint32_t), _Alignof(max_align_t));
    return status;
}

// On failure the order is freed with its slot.
weir_status program_find_order(weir_program* program, program_slot* slot) {
    alias_search search = {.program = program, .slot = slot};
    weir_status status = find_edges(&search);
    if (status == WEIR_OK && search.edges.count > 0) {
        status = make_order(&search, &slot->order);
    }
    array_free(&program->device->allocator, &search.edges);
    return status;
}

void program_order_free(const weir_program* program, program_order* order) {
    const weir_allocator* allocator = &program->device->allocator;
    const size_t count = program->schedule->dispatches.count;
    weir_free(allocator, order->numbers, count * sizeof(uint32_t), _Alignof(max_align_t));
    weir_free(allocator, order->begins, (count + 1) * sizeof(uint32_t), _Alignof(max_align_t));
    array_free(allocator, &order->edges);
    *order = (program_order){0};
}
