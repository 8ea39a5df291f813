// Which values may lie where, and where they do: lifetimes and pairs in place, the plan, and what
// lies outside of the arena.
#include <string.h>

#include "plan/plan_scratch.h"
#include "schedule/schedule.h"

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
    return by_groups ? (int64_t)schedule->dispatches.items[dispatch].group : (int64_t)dispatch;
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

static bool same_layout(const weir_view* a, const weir_view* b) {
    return a->dtype == b->dtype && weir_shape_equal(&a->shape, &b->shape) &&
           weir_view_is_contiguous(a) && weir_view_is_contiguous(b);
}

// Whether the contract of an operation lets its output lie on an input: the input is the whole of
// its root, both have the same layout, and no other operand is a window on that root. It is done
// only where no other access of the root comes after.
static bool can_overwrite(const weir_schedule* schedule, const schedule_dispatch* dispatch,
                          uint32_t input, uint32_t output) {
    const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
    const schedule_operand* on = &operands[input];
    const schedule_operand* result = &operands[output];
    const uint32_t buffer = schedule->buffers[on->root];
    if (((weir_graph_op_in_place(dispatch->op, &dispatch->constants) >> input) & 1) == 0 ||
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
    return true;
}

static void find_overwrites(weir_schedule* schedule) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
        while (operands[dispatch->output].kind == WEIR_ACCESS_READ) {
            dispatch->output++;
        }
        for (uint32_t i = 0; i < dispatch->output && !schedule->options.never_in_place; i++) {
            const bool can = can_overwrite(schedule, dispatch, i, dispatch->output);
            dispatch->overwrites |= (uint32_t)can << i;
        }
    }
}

// What a block may have: blocks are storages, and begin where any value may.
static uint64_t block_limit(const weir_schedule* schedule) {
    const uint64_t limit = schedule->target.storage_bytes_max;
    return limit - limit % schedule->target.alignment;
}

static weir_status check_block(const weir_schedule* schedule, weir_value value) {
    const weir_value_info* info = &schedule->values.items[value];
    const uint64_t byte_size = weir_view_byte_span(&info->layout);
    if (schedule->target.storage_bytes_max == 0 || byte_size <= block_limit(schedule)) {
        return WEIR_OK;
    }
    return WEIR_FAIL(WEIR_UNSUPPORTED,
                     "value %u (%s) takes %llu bytes, a storage of target %s has at most %llu",
                     value, info->name, (unsigned long long)byte_size, schedule->target.name,
                     (unsigned long long)block_limit(schedule));
}

weir_status weir_schedule_add_buffers(weir_schedule* schedule) {
    const size_t count = schedule->values.count;
    void* memory = NULL;
    WEIR_TRY(weir_alloc_zeroed(&schedule->allocator, count * sizeof(weir_placement), &memory));
    schedule->placements = memory;
    WEIR_TRY(weir_alloc_zeroed(&schedule->allocator, count * sizeof(uint32_t), &memory));
    schedule->buffers = memory;
    memset(schedule->buffers, 0xFF, count * sizeof(uint32_t)); // WEIR_PLAN_NONE
    for (weir_value value = 0; value < schedule->values.count; value++) {
        uint32_t uses = 0;
        schedule_uses_of(schedule, value, &uses);
        if (!in_arena(schedule, value) || uses == 0) {
            continue;
        }
        WEIR_TRY(check_block(schedule, value));
        const weir_plan_buffer buffer = {
            .byte_size = weir_view_byte_span(&schedule->values.items[value].layout),
            .interval_begin = schedule->report.values++,
            .interval_count = 1,
        };
        WEIR_TRY(add_buffer(schedule, &buffer, &schedule->buffers[value]));
        WEIR_TRY(add_bytes(&schedule->report.total_bytes, buffer.byte_size));
    }
    schedule->plan_intervals.count = schedule->report.values;
    find_overwrites(schedule);
    return array_reserve(&schedule->allocator, &schedule->plan_intervals,
                         schedule->plan_intervals.count);
}

// What "comes before" means to a plan.
typedef enum clock_kind {
    CLOCK_POSITION = 0, // a smaller number
    CLOCK_GROUP = 1,    // a smaller group
    CLOCK_ORDER = 2,    // surely complete
} clock_kind;

static bool comes_before(const weir_schedule* schedule, uint32_t a, uint32_t b, clock_kind clock) {
    switch (clock) {
    case CLOCK_POSITION:
        return a < b;
    case CLOCK_GROUP:
        return schedule->dispatches.items[a].group < schedule->dispatches.items[b].group;
    case CLOCK_ORDER:
        break;
    }
    return schedule_bit(&schedule->ancestors, b, a);
}

static bool is_last_use(const weir_schedule* schedule, weir_value root, uint32_t dispatch,
                        clock_kind clock) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, root, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (uses[i] != dispatch && !comes_before(schedule, uses[i], dispatch, clock)) {
            return false;
        }
    }
    return true;
}

static weir_status add_in_place_pairs(weir_schedule* schedule, clock_kind clock) {
    schedule->plan_pairs.count = 0;
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        const schedule_operand* operands = schedule->operands.items + dispatch->operand_begin;
        for (uint32_t input = 0; dispatch->overwrites >> input != 0; input++) {
            if ((dispatch->overwrites >> input & 1) == 0 ||
                !is_last_use(schedule, operands[input].root, d, clock)) {
                continue;
            }
            const weir_plan_in_place pair = {.buffer =
                                                 schedule->buffers[operands[dispatch->output].root],
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
        .block_bytes_max = schedule->block_bytes_max,
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

// Results that no dispatch touches: fusion computes past them.
static bool is_left_out(const weir_schedule* schedule, weir_value value) {
    uint32_t uses = 0;
    schedule_uses_of(schedule, value, &uses);
    return uses == 0 && schedule->values.items[value].kind == WEIR_VALUE_RESULT;
}

static weir_status place_all(weir_schedule* schedule) {
    const weir_plan_entry* entries = weir_plan_entries(schedule->plan, NULL);
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_value_info* info = &schedule->values.items[value];
        const uint32_t buffer = schedule->buffers[value];
        if (buffer != WEIR_PLAN_NONE) {
            schedule->placements[value] = (weir_placement){
                .region = WEIR_REGION_ARENA,
                .block = entries[buffer].block,
                .byte_offset = entries[buffer].byte_offset,
                .byte_size = entries[buffer].byte_size,
            };
        } else if (info->kind != WEIR_VALUE_VIEW && !is_left_out(schedule, value)) {
            WEIR_TRY(place_outside(schedule, value));
        }
    }
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const weir_value_info* info = &schedule->values.items[value];
        if (info->kind == WEIR_VALUE_VIEW && !is_left_out(schedule, info->root)) {
            schedule->placements[value] = schedule->placements[info->root];
            schedule->placements[value].byte_offset += info->layout.byte_offset;
            schedule->placements[value].byte_size = weir_view_byte_span(&info->layout);
        }
    }
    return WEIR_OK;
}

// States the problem of the mode that the schedule is made for.
static weir_status state_problem(weir_schedule* schedule) {
    const weir_reuse reuse = schedule->options.reuse;
    const bool serial = reuse == WEIR_REUSE_SERIAL;
    const bool by_groups = schedule_by_groups(schedule);
    schedule->plan_pairs.count = 0;
    if (serial || by_groups) {
        set_lifetimes(schedule, by_groups);
        return add_in_place_pairs(schedule, serial ? CLOCK_POSITION : CLOCK_GROUP);
    }
    WEIR_TRY(weir_schedule_find_order(schedule));
    return reuse == WEIR_REUSE_NONE ? WEIR_OK : add_in_place_pairs(schedule, CLOCK_ORDER);
}

// Bytes that a dispatch saves by writing its result where it reads for the last time.
static uint64_t saved_bytes(const weir_schedule* schedule, uint32_t index, clock_kind clock) {
    const schedule_dispatch* dispatch = &schedule->dispatches.items[index];
    for (uint32_t input = 0; dispatch->overwrites >> input != 0; input++) {
        const weir_value root = schedule->operands.items[dispatch->operand_begin + input].root;
        if ((dispatch->overwrites >> input & 1) != 0 && is_last_use(schedule, root, index, clock)) {
            return schedule->plan_buffers.items[schedule->buffers[root]].byte_size;
        }
    }
    return 0;
}

// The peak of live bytes by position or by group, with every result in place that may be: no plan
// in which values live at least so long is smaller. Unsigned sums wrap around on the way and come
// out right.
static weir_status find_live_peak(const weir_schedule* schedule, clock_kind clock, uint64_t* peak) {
    const bool by_groups = clock == CLOCK_GROUP;
    const size_t count = schedule->dispatches.count;
    plan_scratch scratch = {.allocator = schedule->allocator};
    uint64_t* changes = NULL; // of the live bytes before each moment
    uint64_t* saved = NULL;   // at each moment
    WEIR_TRY(scratch_take(&scratch, &changes, 2 * (count + 1)));
    saved = changes + count + 1;
    for (weir_value value = 0; value < schedule->values.count; value++) {
        if (schedule->buffers[value] != WEIR_PLAN_NONE) {
            const weir_plan_interval life = lifetime(schedule, value, by_groups);
            const uint64_t bytes = schedule->plan_buffers.items[schedule->buffers[value]].byte_size;
            changes[life.begin] += bytes;
            changes[life.end] -= bytes;
        }
    }
    for (uint32_t d = 0; d < count; d++) {
        saved[moment(schedule, d, by_groups)] += saved_bytes(schedule, d, clock);
    }
    uint64_t live = 0;
    *peak = 0;
    for (size_t m = 0; m < count; m++) {
        live += changes[m];
        *peak = live - saved[m] > *peak ? live - saved[m] : *peak;
    }
    plan_scratch_release(&scratch, NULL);
    return WEIR_OK;
}

// Takes the plan that was given; one in a single block needs no limit, so that what was saved for
// an arena without blocks is judged as it was made. So many blocks of a limit near 2^63, which some
// targets have, would be more than the line of a plan holds: of a lower one they are not.
static weir_status adopt_plan(weir_schedule* schedule) {
    const schedule_given* given = schedule->given;
    const uint32_t count = (uint32_t)schedule->plan_buffers.count;
    uint32_t last = 0;
    if (given->entry_count != count) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "places for %u values are given, expected %u",
                         given->entry_count, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        last = given->entries[i].block > last ? given->entries[i].block : last;
        if (given->entries[i].block >= count) { // none is empty
            return WEIR_FAIL(WEIR_INFEASIBLE, "%u values lie in a block %u", count,
                             given->entries[i].block);
        }
    }
    const uint64_t line = (uint64_t)INT64_MAX / ((uint64_t)last + 1);
    const uint64_t most = line - line % schedule->target.alignment;
    const uint64_t limit = block_limit(schedule);
    schedule->block_bytes_max = last == 0 ? 0 : limit < most ? limit : most;
    const weir_plan_problem problem = weir_schedule_problem(schedule);
    return weir_plan_adopt(&schedule->allocator, &problem, given->entries, &given->claims,
                           &schedule->plan);
}

static bool fits_storage(const weir_schedule* schedule) {
    return schedule->target.storage_bytes_max == 0 ||
           weir_plan_result_of(schedule->plan)->peak <= block_limit(schedule);
}

// Plans in one block, and in several only where no storage is as large.
static weir_status make_plan(weir_schedule* schedule, uint64_t live) {
    weir_plan_problem problem = weir_schedule_problem(schedule);
    problem.enough = schedule->options.reuse == WEIR_REUSE_NONE ? 0 : live;
    if (schedule->target.storage_bytes_max == 0 || live <= block_limit(schedule)) {
        WEIR_TRY(weir_plan_create(&schedule->allocator, &problem, &schedule->plan));
        if (fits_storage(schedule)) {
            return WEIR_OK;
        }
        weir_plan_destroy(schedule->plan);
        schedule->plan = NULL;
    }
    schedule->block_bytes_max = problem.block_bytes_max = block_limit(schedule);
    return weir_plan_create(&schedule->allocator, &problem, &schedule->plan);
}

static weir_status place_buffers(weir_schedule* schedule, uint64_t live) {
    WEIR_TRY(schedule->given ? adopt_plan(schedule) : make_plan(schedule, live));
    return schedule->block_bytes_max > 0 || fits_storage(schedule)
               ? WEIR_OK
               : WEIR_FAIL(WEIR_INFEASIBLE,
                           "an arena of %llu bytes in one block, a storage of target %s has at "
                           "most %llu",
                           (unsigned long long)weir_plan_result_of(schedule->plan)->peak,
                           schedule->target.name, (unsigned long long)block_limit(schedule));
}

// Fills in what the arena takes. Behind the last value of a block nothing is taken: the plan, which
// lays the blocks out on one line, counts that, and so does its bound.
static weir_status report_blocks(weir_schedule* schedule, uint64_t live) {
    uint32_t count = 0;
    const weir_plan_result* result = weir_plan_result_of(schedule->plan);
    const weir_plan_entry* entries = weir_plan_entries(schedule->plan, &count);
    weir_schedule_report* report = &schedule->report;
    plan_scratch scratch = {.allocator = schedule->allocator};
    uint64_t* ends = NULL;
    report->arena_bytes = result->peak;
    report->bound_bytes = result->lower_bound;
    report->arena_blocks = 1;
    if (schedule->block_bytes_max == 0) {
        return WEIR_OK;
    }
    WEIR_TRY(scratch_take(&scratch, &ends, count > result->blocks ? count : result->blocks));
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t end = entries[i].byte_offset + entries[i].byte_size;
        uint64_t* last = &ends[entries[i].block];
        *last = end > *last ? end : *last;
        report->arena_blocks =
            entries[i].block >= report->arena_blocks ? entries[i].block + 1 : report->arena_blocks;
    }
    report->arena_bytes = 0;
    for (uint32_t b = 0; b < report->arena_blocks; b++) {
        report->arena_bytes += ends[b];
    }
    report->bound_bytes = live;
    plan_scratch_release(&scratch, NULL);
    return WEIR_OK;
}

// What the serial order needs: lifetimes by position, and in place whatever is read for the last
// time by position. The plan at hand serves that order too: it is the answer where it is as small
// as the live bytes of that order, else there is a plan to make, and the problem to put back.
static weir_status find_serial_bytes(weir_schedule* schedule, uint64_t live) {
    const uint64_t planned = schedule->report.arena_bytes;
    schedule->report.serial_bytes = planned;
    if (schedule->options.reuse == WEIR_REUSE_SERIAL || live == planned) {
        return WEIR_OK;
    }
    weir_plan* plan = NULL;
    set_lifetimes(schedule, false);
    WEIR_TRY(add_in_place_pairs(schedule, CLOCK_POSITION));
    weir_plan_problem problem = weir_schedule_problem(schedule);
    problem.precedes = NULL;
    problem.block_bytes_max = 0;
    problem.enough = live;
    WEIR_TRY(weir_plan_create(&schedule->allocator, &problem, &plan));
    schedule->report.serial_bytes = weir_plan_result_of(plan)->peak;
    weir_plan_destroy(plan);
    return state_problem(schedule);
}

weir_status weir_schedule_place_values(weir_schedule* schedule) {
    uint64_t serial_live = 0;
    uint64_t live = 0;
    WEIR_TRY(find_live_peak(schedule, CLOCK_POSITION, &serial_live));
    live = serial_live;
    if (schedule_by_groups(schedule)) {
        WEIR_TRY(find_live_peak(schedule, CLOCK_GROUP, &live));
    }
    WEIR_TRY(state_problem(schedule));
    WEIR_TRY(place_buffers(schedule, live));
    WEIR_TRY(report_blocks(schedule, live));
    schedule->report.in_place = weir_plan_result_of(schedule->plan)->in_place;
    if (schedule->given) {
        schedule->report.serial_bytes = schedule->given->serial_bytes;
    } else {
        WEIR_TRY(find_serial_bytes(schedule, serial_live));
    }
    return place_all(schedule);
}
