#include "schedule/schedule.h"

#include <string.h>

#include "base/bits.h"

static bool in_arena(const weir_schedule* schedule, weir_value value) {
    const weir_value_info* info = &schedule->values.items[value];
    return info->kind == WEIR_VALUE_RESULT && !info->is_output;
}

static weir_status add_buffer(weir_schedule* schedule, const weir_plan_buffer* buffer,
                              uint32_t* index) {
    WEIR_TRY(array_reserve(&schedule->allocator, &schedule->plan_buffers,
                           schedule->plan_buffers.count + 1));
    *index = (uint32_t)schedule->plan_buffers.count;
    schedule->plan_buffers.items[schedule->plan_buffers.count++] = *buffer;
    return WEIR_OK;
}

// Reports add up sizes of the caller, each of which fits 63 bits.
static weir_status add_bytes(uint64_t* sum, uint64_t byte_size) {
    if (byte_size > (uint64_t)INT64_MAX - *sum) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the values of the graph pass 2^63 - 1 bytes");
    }
    *sum += byte_size;
    return WEIR_OK;
}

// The clock of the intervals: groups where a boundary waits for all before it, else the order.
static int64_t moment(const weir_schedule* schedule, uint32_t dispatch, bool by_groups) {
    return by_groups ? (int64_t)schedule->dispatches.items[dispatch].level : (int64_t)dispatch;
}

static weir_plan_interval lifetime(const weir_schedule* schedule, weir_value value,
                                   bool by_groups) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, value, &count);
    int64_t begin = moment(schedule, uses[0], by_groups);
    int64_t end = begin;
    for (uint32_t i = 1; i < count; i++) {
        const int64_t at = moment(schedule, uses[i], by_groups);
        begin = at < begin ? at : begin;
        end = at > end ? at : end;
    }
    return (weir_plan_interval){.begin = begin, .end = end + 1};
}

// One interval for each buffer.
static void set_lifetimes(weir_schedule* schedule, bool by_groups) {
    for (weir_value value = 0; value < schedule->values.count; value++) {
        if (schedule->buffers[value] != WEIR_PLAN_NONE) {
            schedule->plan_intervals.items[schedule->buffers[value]] =
                lifetime(schedule, value, by_groups);
        }
    }
}

static weir_status add_buffers(weir_schedule* schedule) {
    for (weir_value value = 0; value < schedule->values.count; value++) {
        uint32_t uses = 0;
        schedule_uses_of(schedule, value, &uses);
        if (!in_arena(schedule, value) || uses == 0) {
            continue;
        }
        const weir_plan_buffer buffer = {
            .byte_size = weir_view_byte_span(&schedule->values.items[value].layout),
            .interval_begin = schedule->report.values++,
            .interval_count = 1,
        };
        WEIR_TRY(add_buffer(schedule, &buffer, &schedule->buffers[value]));
        WEIR_TRY(add_bytes(&schedule->report.total_bytes, buffer.byte_size));
    }
    schedule->plan_intervals.count = schedule->report.values;
    return array_reserve(&schedule->allocator, &schedule->plan_intervals,
                         schedule->plan_intervals.count);
}

// Whether all other uses of a value come before its last one by the order alone.
static bool ends_at_last_use(const weir_schedule* schedule, weir_value value) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, value, &count);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (!schedule_bit(&schedule->ancestors, uses[count - 1], uses[i])) {
            return false;
        }
    }
    return true;
}

static bool all_uses_precede(const weir_schedule* schedule, weir_value value, uint32_t dispatch) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, value, &count);
    for (uint32_t i = count; i-- > 0;) {
        if (!schedule_bit(&schedule->ancestors, dispatch, uses[i])) {
            return false;
        }
    }
    return true;
}

// Adds the buffers that end with `from`, a predecessor of `to`, and all that are over by then.
static void inherit_over(const weir_schedule* schedule, schedule_bits* over, const bool* at_once,
                         uint32_t to, uint32_t from) {
    uint64_t* target = over->words + to * over->row_words;
    const uint64_t* source = over->words + from * over->row_words;
    for (size_t w = 0; w < over->row_words; w++) {
        target[w] |= source[w];
    }
    const schedule_dispatch* dispatch = &schedule->dispatches.items[from];
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const weir_value root = schedule->operands.items[dispatch->operand_begin + i].root;
        const uint32_t buffer = schedule->buffers[root];
        if (buffer == WEIR_PLAN_NONE || !at_once[buffer]) {
            continue;
        }
        if (schedule->uses.items[schedule->uses.begins[root + 1] - 1] == from) {
            bits_set(target, buffer);
        }
    }
}

// Fills `over`: per dispatch the buffers whose every access is complete before it starts. A buffer
// with one last use is over for whatever waits for that use; only those whose last uses run side by
// side must be asked for, dispatch by dispatch, until the order has joined them.
static void find_over(const weir_schedule* schedule, schedule_bits* over, const bool* at_once) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        for (uint32_t e = schedule->edges.begins[d]; e < schedule->edges.begins[d + 1]; e++) {
            inherit_over(schedule, over, at_once, d, schedule->edges.items[e]);
        }
    }
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const uint32_t buffer = schedule->buffers[value];
        if (buffer == WEIR_PLAN_NONE || at_once[buffer]) {
            continue;
        }
        const uint32_t last = schedule->uses.items[schedule->uses.begins[value + 1] - 1];
        for (uint32_t d = last + 1; d < schedule->dispatches.count; d++) {
            if (all_uses_precede(schedule, value, d)) {
                schedule_bit_set(over, d, buffer);
            }
        }
    }
}

// Fills, per buffer, those that are over before any access of it starts.
static void find_before(const weir_schedule* schedule, const schedule_bits* over,
                        schedule_bits* before) {
    for (weir_value value = 0; value < schedule->values.count; value++) {
        if (schedule->buffers[value] == WEIR_PLAN_NONE) {
            continue;
        }
        uint32_t count = 0;
        const uint32_t* uses = schedule_uses_of(schedule, value, &count);
        uint64_t* row = before->words + schedule->buffers[value] * before->row_words;
        memcpy(row, over->words + uses[0] * over->row_words, over->row_words * sizeof *row);
        for (uint32_t i = 1; i < count; i++) {
            const uint64_t* other = over->words + uses[i] * over->row_words;
            for (size_t w = 0; w < over->row_words; w++) {
                row[w] &= other[w];
            }
        }
    }
}

static weir_status transpose_order(weir_schedule* schedule, const schedule_bits* over) {
    const size_t count = schedule->plan_buffers.count;
    schedule_bits before = {0};
    WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, count, count, &before));
    find_before(schedule, over, &before);
    weir_bits_transpose(before.words, count, count, schedule->precedes.words);
    weir_schedule_bits_free(&schedule->allocator, &before);
    return WEIR_OK;
}

// Fills the partial order of the plan's buffers from the edges between the dispatches, which where
// waits are edges are all that orders them.
static weir_status find_precedence(weir_schedule* schedule) {
    const size_t count = schedule->plan_buffers.count;
    WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, count, count, &schedule->precedes));
    if (schedule->options.reuse == WEIR_REUSE_NONE) {
        return WEIR_OK;
    }
    schedule_bits over = {0};
    void* memory = NULL;
    WEIR_TRY(
        weir_schedule_bits_new(&schedule->allocator, schedule->dispatches.count, count, &over));
    weir_status status = weir_alloc_zeroed(&schedule->allocator, count * sizeof(bool), &memory);
    if (status == WEIR_OK) {
        bool* at_once = memory;
        for (weir_value value = 0; value < schedule->values.count; value++) {
            if (schedule->buffers[value] != WEIR_PLAN_NONE) {
                at_once[schedule->buffers[value]] = ends_at_last_use(schedule, value);
            }
        }
        find_over(schedule, &over, at_once);
        status = transpose_order(schedule, &over);
    }
    weir_free(&schedule->allocator, memory, count * sizeof(bool), _Alignof(max_align_t));
    weir_schedule_bits_free(&schedule->allocator, &over);
    return status;
}

static bool same_layout(const weir_view* a, const weir_view* b) {
    return a->dtype == b->dtype && weir_shape_equal(&a->shape, &b->shape) &&
           weir_view_is_contiguous(a) && weir_view_is_contiguous(b);
}

static bool is_last_use(const weir_schedule* schedule, weir_value root, uint32_t dispatch,
                        bool by_position) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, root, &count);
    for (uint32_t i = 0; i < count; i++) {
        const bool before = by_position ? uses[i] < dispatch
                                        : schedule_bit(&schedule->ancestors, dispatch, uses[i]);
        if (uses[i] != dispatch && !before) {
            return false;
        }
    }
    return true;
}

// The output of a dispatch may lie on input `input` when the contract of the operation says so,
// the input is the whole of its root, both have the same layout, and no other access of the root
// comes after.
static bool may_be_in_place(const weir_schedule* schedule, uint32_t index, uint32_t input,
                            uint32_t output, bool by_position) {
    const schedule_dispatch* dispatch = &schedule->dispatches.items[index];
    const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
    const schedule_operand* on = &operands[input];
    const schedule_operand* result = &operands[output];
    const uint32_t buffer = schedule->buffers[on->root];
    if (((weir_graph_op_info(dispatch->op)->in_place >> input) & 1) == 0 ||
        schedule->buffers[result->root] == WEIR_PLAN_NONE || buffer == WEIR_PLAN_NONE ||
        on->rows != result->rows ||
        schedule->plan_buffers.items[buffer].byte_size != weir_view_byte_span(&on->layout) ||
        !same_layout(&on->layout, &result->layout)) {
        return false;
    }
    for (uint32_t i = 0; i < output; i++) {
        if (i != input && operands[i].root == on->root) {
            return false;
        }
    }
    return is_last_use(schedule, on->root, index, by_position);
}

static weir_status add_in_place_pairs(weir_schedule* schedule, bool by_position) {
    if (schedule->options.never_in_place) {
        return WEIR_OK;
    }
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
        uint32_t output = 0;
        while (operands[output].kind == WEIR_ACCESS_READ) {
            output++;
        }
        for (uint32_t input = 0; input < output; input++) {
            if (!may_be_in_place(schedule, d, input, output, by_position)) {
                continue;
            }
            const weir_plan_in_place pair = {.buffer = schedule->buffers[operands[output].root],
                                             .on = schedule->buffers[operands[input].root]};
            WEIR_TRY(array_reserve(&schedule->allocator, &schedule->plan_pairs,
                                   schedule->plan_pairs.count + 1));
            schedule->plan_pairs.items[schedule->plan_pairs.count++] = pair;
        }
    }
    return WEIR_OK;
}

weir_plan_problem weir_schedule_problem(const weir_schedule* schedule) {
    return (weir_plan_problem){
        .buffers = schedule->plan_buffers.items,
        .buffer_count = (uint32_t)schedule->plan_buffers.count,
        .intervals = schedule->plan_intervals.items,
        .interval_count = (uint32_t)schedule->plan_intervals.count,
        .precedes = schedule->precedes.words,
        .in_place = schedule->plan_pairs.items,
        .in_place_count = (uint32_t)schedule->plan_pairs.count,
        .alignment = schedule->target.alignment,
        .iterations = schedule->options.plan_iterations,
    };
}

// Values that the caller reads or writes lie one after another in their region.
static weir_status place_outside(weir_schedule* schedule, weir_value value) {
    const weir_value_info* info = &schedule->values.items[value];
    weir_placement* place = &schedule->placements[value];
    const uint64_t byte_size = weir_view_byte_span(&info->layout);
    uint64_t* region_bytes = NULL;
    place->byte_size = byte_size;
    switch (info->kind) {
    case WEIR_VALUE_WEIGHT:
        place->region = WEIR_REGION_WEIGHT;
        return add_bytes(&schedule->report.weight_bytes, byte_size);
    case WEIR_VALUE_STATE:
        place->region = WEIR_REGION_STATE;
        return add_bytes(&schedule->report.state_bytes, byte_size);
    case WEIR_VALUE_INPUT:
        place->region = WEIR_REGION_INPUT;
        region_bytes = &schedule->report.input_bytes;
        break;
    case WEIR_VALUE_RESULT:
    case WEIR_VALUE_VIEW:
        place->region = WEIR_REGION_OUTPUT;
        region_bytes = &schedule->report.output_bytes;
        break;
    }
    const uint64_t rest = byte_size % schedule->target.alignment;
    place->byte_offset = *region_bytes;
    WEIR_TRY(add_bytes(region_bytes, byte_size));
    return add_bytes(region_bytes, rest > 0 ? schedule->target.alignment - rest : 0);
}

static weir_status place_all(weir_schedule* schedule) {
    const weir_plan_entry* entries = weir_plan_entries(schedule->plan, NULL);
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_value_info* info = &schedule->values.items[value];
        const uint32_t buffer = schedule->buffers[value];
        if (buffer != WEIR_PLAN_NONE) {
            schedule->placements[value] = (weir_placement){
                .region = WEIR_REGION_ARENA,
                .byte_offset = entries[buffer].byte_offset,
                .byte_size = entries[buffer].byte_size,
            };
        } else if (info->kind != WEIR_VALUE_VIEW) {
            WEIR_TRY(place_outside(schedule, value));
        }
    }
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_value_info* info = &schedule->values.items[value];
        if (info->kind == WEIR_VALUE_VIEW) {
            schedule->placements[value] = schedule->placements[info->root];
            schedule->placements[value].byte_offset += info->layout.byte_offset;
            schedule->placements[value].byte_size = weir_view_byte_span(&info->layout);
        }
    }
    return WEIR_OK;
}

static weir_status make_plan(weir_schedule* schedule) {
    const weir_plan_problem problem = weir_schedule_problem(schedule);
    const schedule_given* given = schedule->given;
    if (!given) {
        return weir_plan_create(&schedule->allocator, &problem, &schedule->plan);
    }
    if (given->entry_count != problem.buffer_count) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "places for %u values are given, expected %u",
                         given->entry_count, problem.buffer_count);
    }
    return weir_plan_adopt(&schedule->allocator, &problem, given->entries, &given->claims,
                           &schedule->plan);
}

// What the serial order needs: lifetimes by position, and in place whatever is read for the last
// time by position.
static weir_status plan_serial(weir_schedule* schedule) {
    set_lifetimes(schedule, false);
    WEIR_TRY(add_in_place_pairs(schedule, true));
    WEIR_TRY(make_plan(schedule));
    schedule->report.serial_bytes = weir_plan_result_of(schedule->plan)->peak;
    return WEIR_OK;
}

static void drop_plan(weir_schedule* schedule) {
    weir_plan_destroy(schedule->plan);
    schedule->plan = NULL;
    schedule->plan_pairs.count = 0;
}

static weir_status plan_free(weir_schedule* schedule) {
    if (schedule->options.reuse != WEIR_REUSE_NONE) {
        WEIR_TRY(add_in_place_pairs(schedule, false));
    }
    if (schedule->options.reuse == WEIR_REUSE_FREE && schedule->target.waits == WEIR_WAIT_GROUPS) {
        set_lifetimes(schedule, true);
    } else {
        WEIR_TRY(find_precedence(schedule));
    }
    return make_plan(schedule);
}

static weir_status plan_values(weir_schedule* schedule) {
    const bool serial = schedule->options.reuse == WEIR_REUSE_SERIAL;
    WEIR_TRY(add_buffers(schedule));
    if (serial || !schedule->given) {
        WEIR_TRY(plan_serial(schedule));
    } else {
        set_lifetimes(schedule, false);
        schedule->report.serial_bytes = schedule->given->serial_bytes;
    }
    if (!serial) {
        drop_plan(schedule);
        WEIR_TRY(plan_free(schedule));
    }
    const weir_plan_result* result = weir_plan_result_of(schedule->plan);
    schedule->report.arena_bytes = result->peak;
    schedule->report.bound_bytes = result->lower_bound;
    schedule->report.in_place = result->in_place;
    return WEIR_OK;
}

weir_status weir_schedule_place_values(weir_schedule* schedule) {
    const size_t count = schedule->values.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(&schedule->allocator, count * sizeof(weir_placement), &memory));
    schedule->placements = memory;
    WEIR_TRY(weir_alloc_zeroed(&schedule->allocator, count * sizeof(uint32_t), &memory));
    schedule->buffers = memory;
    memset(schedule->buffers, 0xFF, count * sizeof(uint32_t)); // WEIR_PLAN_NONE
    WEIR_TRY(plan_values(schedule));
    return place_all(schedule);
}
