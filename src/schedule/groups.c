// Groups: which dispatches run between the same two boundaries. Dispatches are numbered by group,
// so that what comes later by number never runs earlier, and lifetimes in groups agree with the
// numbers.
#include <string.h>

#include "schedule/order.h"
#include "schedule/schedule.h"

// The numbers that dispatches get: by group, and within a group as they were.
static void count_numbers(const weir_schedule* schedule, uint32_t* begins, uint32_t* numbers) {
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    uint32_t groups = 0;
    for (uint32_t d = 0; d < count; d++) {
        const uint32_t group = schedule->dispatches.items[d].group;
        groups = group >= groups ? group + 1 : groups;
        begins[group + 1]++;
    }
    for (uint32_t g = 0; g < groups; g++) {
        begins[g + 1] += begins[g];
    }
    for (uint32_t d = 0; d < count; d++) {
        numbers[d] = begins[schedule->dispatches.items[d].group]++;
    }
}

// Puts the dispatches in their new places, and groups that are empty away.
static void move_dispatches(weir_schedule* schedule, const uint32_t* numbers,
                            schedule_dispatch* moved) {
    const size_t count = schedule->dispatches.count;
    for (size_t d = 0; d < count; d++) {
        moved[numbers[d]] = schedule->dispatches.items[d];
    }
    uint32_t groups = 0;
    for (size_t d = 0; d < count; d++) {
        groups += d == 0 || moved[d].group != moved[d - 1].group ? 1 : 0;
        schedule->dispatches.items[d] = moved[d];
        schedule->dispatches.items[d].group = groups - 1;
    }
    schedule->group_count = groups;
}

static void move_edges(weir_schedule* schedule, const uint32_t* numbers, uint32_t* begins,
                       uint32_t* items) {
    const size_t count = schedule->dispatches.count;
    schedule_edges* edges = &schedule->edges;
    memset(begins, 0, (count + 1) * sizeof *begins);
    for (size_t d = 0; d < count; d++) {
        begins[numbers[d] + 1] = edges->begins[d + 1] - edges->begins[d];
    }
    for (size_t d = 0; d < count; d++) {
        begins[d + 1] += begins[d];
    }
    for (size_t d = 0; d < count; d++) {
        uint32_t* to = items + begins[numbers[d]];
        for (uint32_t e = edges->begins[d]; e < edges->begins[d + 1]; e++) {
            *to++ = numbers[edges->items[e]];
        }
    }
    memcpy(edges->begins, begins, (count + 1) * sizeof *begins);
    memcpy(edges->items, items, edges->count * sizeof *items);
    for (size_t r = 0; r < schedule->residual.count; r++) {
        schedule_edge* edge = &schedule->residual.items[r];
        *edge = (schedule_edge){.from = numbers[edge->from], .to = numbers[edge->to]};
    }
}

// Numbers the dispatches by their groups.
static weir_status renumber(weir_schedule* schedule, plan_scratch* scratch) {
    const size_t count = schedule->dispatches.count;
    uint32_t* begins = NULL;
    uint32_t* numbers = NULL;
    uint32_t* items = NULL;
    schedule_dispatch* moved = NULL;
    WEIR_TRY(scratch_take(scratch, &begins, count + 1));
    WEIR_TRY(scratch_take(scratch, &numbers, count));
    WEIR_TRY(scratch_take(scratch, &items, schedule->edges.count));
    WEIR_TRY(scratch_take(scratch, &moved, count));
    count_numbers(schedule, begins, numbers);
    move_dispatches(schedule, numbers, moved);
    move_edges(schedule, numbers, begins, items);
    return weir_schedule_find_uses(schedule);
}

// Where a boundary waits for everything before it, all of the lower groups are ancestors. These
// dispatches are the first by number.
static void close_groups(weir_schedule* schedule) {
    schedule_bits* ancestors = &schedule->ancestors;
    uint32_t before = 0;
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        uint64_t* row = ancestors->words + i * ancestors->row_words;
        if (i > 0 &&
            schedule->dispatches.items[i].group > schedule->dispatches.items[i - 1].group) {
            before = i;
        }
        memset(row, 0, ancestors->row_words * sizeof *row);
        memset(row, 0xFF, before / 64 * sizeof *row);
        if (before % 64 > 0) {
            row[before / 64] = (UINT64_C(1) << (before % 64)) - 1;
        }
    }
}

// In the order of the graph a boundary stands wherever a dispatch waits for one of the open group.
static void group_as_given(weir_schedule* schedule) {
    uint32_t group = 0;
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        for (uint32_t e = schedule->edges.begins[d]; e < schedule->edges.begins[d + 1]; e++) {
            const uint32_t before = schedule->dispatches.items[schedule->edges.items[e]].group;
            group = before == group ? group + 1 : group;
        }
        schedule->dispatches.items[d].group = group;
    }
}

static weir_status search_groups(weir_schedule* schedule, plan_scratch* scratch) {
    order_net net;
    uint32_t* groups = NULL;
    WEIR_TRY(order_net_make(scratch, schedule, &net));
    WEIR_TRY(scratch_take(scratch, &groups, net.dispatch_count));
    if (schedule->policy == SCHEDULE_DEPTH) {
        WEIR_TRY(order_by_depth(scratch, &net, groups));
    } else {
        WEIR_TRY(order_by_bytes(scratch, &net, schedule->cap, groups));
    }
    for (uint32_t d = 0; d < net.dispatch_count; d++) {
        schedule->dispatches.items[d].group = groups[d];
    }
    return WEIR_OK;
}

// Takes the groups of a plan file: each must come after all that it waits for.
static weir_status take_groups(weir_schedule* schedule) {
    const schedule_given* given = schedule->given;
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    if (given->dispatch_count != count) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "groups of %u dispatches are given, expected %u",
                         given->dispatch_count, count);
    }
    for (uint32_t d = 0; d < count; d++) {
        schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        dispatch->group = given->groups[d];
        if (dispatch->group >= count) {
            return WEIR_FAIL(WEIR_INFEASIBLE, "%s is in group %u of %u dispatches", dispatch->name,
                             dispatch->group, count);
        }
        for (uint32_t e = schedule->edges.begins[d]; e < schedule->edges.begins[d + 1]; e++) {
            const schedule_dispatch* before = &schedule->dispatches.items[schedule->edges.items[e]];
            if (before->group >= dispatch->group) {
                return WEIR_FAIL(WEIR_INFEASIBLE,
                                 "%s is in group %u, which is not after group %u of %s, which it "
                                 "needs",
                                 dispatch->name, dispatch->group, before->group, before->name);
            }
        }
    }
    return WEIR_OK;
}

static void group_by_level(weir_schedule* schedule) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        schedule->dispatches.items[d].group = schedule->dispatches.items[d].level;
    }
    schedule->group_count = schedule->report.waits + 1;
}

static weir_status form_groups(weir_schedule* schedule, plan_scratch* scratch) {
    group_by_level(schedule);
    if (schedule->given) {
        WEIR_TRY(take_groups(schedule));
    } else if (schedule->policy == SCHEDULE_GIVEN && schedule->target.waits == WEIR_WAIT_GROUPS) {
        group_as_given(schedule);
    } else if (schedule->policy >= SCHEDULE_DEPTH) {
        WEIR_TRY(search_groups(schedule, scratch));
    }
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        schedule->dispatches.items[d].planned = schedule->dispatches.items[d].group;
    }
    if (schedule->target.waits == WEIR_WAIT_EDGES && schedule->policy < SCHEDULE_DEPTH) {
        return WEIR_OK; // numbers say nothing about who waits
    }
    WEIR_TRY(renumber(schedule, scratch));
    if (schedule->target.waits == WEIR_WAIT_GROUPS && !schedule_has_residual(schedule)) {
        close_groups(schedule);
        schedule->report.waits = schedule->group_count - 1;
        return WEIR_OK;
    }
    return weir_schedule_close(schedule);
}

// Groups, before anything is placed.
weir_status weir_schedule_form_groups(weir_schedule* schedule) {
    plan_scratch scratch = {.allocator = schedule->allocator};
    const weir_status status = form_groups(schedule, &scratch);
    plan_scratch_release(&scratch, NULL);
    return status;
}

// After edges were added: the groups are what these leave of them.
weir_status weir_schedule_settle(weir_schedule* schedule) {
    if (!schedule_has_residual(schedule)) {
        return WEIR_OK;
    }
    group_by_level(schedule);
    if (schedule->target.waits == WEIR_WAIT_EDGES) {
        return WEIR_OK;
    }
    plan_scratch scratch = {.allocator = schedule->allocator};
    const weir_status status = renumber(schedule, &scratch);
    plan_scratch_release(&scratch, NULL);
    if (status == WEIR_OK) {
        close_groups(schedule);
    }
    return status;
}
