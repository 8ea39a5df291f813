#include "schedule/schedule.h"

// Memory ids of the placed world: regions first, then one per value that is a state, then the
// further blocks of the arena.
#define ARENA_MEMORY 1
#define OUTPUT_MEMORY 2
#define STATE_MEMORY 3

weir_range weir_schedule_placed_range(const weir_schedule* schedule,
                                      const schedule_operand* operand) {
    const weir_placement* place = &schedule->placements[operand->root];
    weir_range range = operand->extent;
    switch (place->region) {
    case WEIR_REGION_ARENA:
        range.memory_id = place->block == 0
                              ? ARENA_MEMORY
                              : STATE_MEMORY + schedule->values.count + place->block - 1;
        break;
    case WEIR_REGION_OUTPUT:
        range.memory_id = OUTPUT_MEMORY;
        break;
    case WEIR_REGION_STATE:
        range.memory_id = STATE_MEMORY + (uint64_t)operand->root;
        return range;
    case WEIR_REGION_INPUT:
    case WEIR_REGION_WEIGHT:
        return (weir_range){0};
    }
    range.byte_offset += place->byte_offset;
    return range;
}

static weir_status not_ordered(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                               const weir_range* earlier_range, const weir_range* later_range) {
    char a[128];
    char b[128];
    return WEIR_FAIL(
        WEIR_INTERNAL, "dispatches %u (%s) and %u (%s) are not ordered: %s and %s", earlier,
        schedule->dispatches.items[earlier].name, later, schedule->dispatches.items[later].name,
        weir_range_format(earlier_range, a, sizeof a), weir_range_format(later_range, b, sizeof b));
}

static weir_status check_verdict(const weir_schedule* schedule, const weir_verdict* verdict) {
    for (uint32_t i = 0; i < verdict->hazard_count; i++) {
        const weir_hazard* hazard = &verdict->hazards[i];
        if (!schedule_bit(&schedule->ancestors, hazard->later, hazard->earlier)) {
            return not_ordered(schedule, hazard->earlier, hazard->later, &hazard->earlier_range,
                               &hazard->later_range);
        }
    }
    return WEIR_OK;
}

weir_status weir_schedule_track(const weir_schedule* schedule, uint32_t dispatch,
                                weir_tracker* tracker, weir_verdict* verdict) {
    const schedule_dispatch* item = &schedule->dispatches.items[dispatch];
    weir_access accesses[SCHEDULE_OPERANDS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < item->operand_count; i++) {
        const schedule_operand* operand = &schedule->operands.items[item->operand_begin + i];
        const weir_range range = weir_schedule_placed_range(schedule, operand);
        if (range.byte_length > 0) { // nothing writes what has none
            accesses[count++] = (weir_access){.range = range, .kind = operand->kind};
        }
    }
    const weir_tracker_dispatch declared = {
        .accesses = accesses, .access_count = count, .declared = true};
    return weir_tracker_record(tracker, &declared, verdict);
}

static weir_status track_placed(const weir_schedule* schedule, weir_tracker* tracker) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        weir_verdict verdict;
        WEIR_TRY(weir_schedule_track(schedule, d, tracker, &verdict));
        WEIR_TRY(check_verdict(schedule, &verdict));
    }
    return WEIR_OK;
}

weir_status weir_schedule_check_tracked(const weir_schedule* schedule) {
    weir_tracker* tracker = NULL;
    WEIR_TRY(weir_tracker_create(&schedule->allocator, WEIR_TRACKER_DAG, &tracker));
    const weir_status status = track_placed(schedule, tracker);
    weir_tracker_destroy(tracker);
    return status;
}

// Marks what surely completes before `later`, without the closure that the schedule keeps: lower
// groups where boundaries wait (and edges say nothing by themselves), else what a walk backwards
// along the edges meets.
static weir_status mark_ancestors(const weir_schedule* schedule, uint32_t later, uint8_t* marks) {
    const schedule_dispatch* dispatches = schedule->dispatches.items;
    const bool by_groups = schedule->target.waits == WEIR_WAIT_GROUPS;
    for (uint32_t i = 0; i < later; i++) {
        marks[i] = by_groups && dispatches[i].group < dispatches[later].group;
    }
    marks[later] = 1;
    for (uint32_t i = by_groups ? 0 : later + 1; i-- > 0;) {
        for (uint32_t e = schedule->edges.begins[i]; marks[i] && e < schedule->edges.begins[i + 1];
             e++) {
            if (schedule->edges.items[e] >= i) {
                return WEIR_FAIL(WEIR_INTERNAL, "dispatch %u waits for %u, which is not before it",
                                 i, schedule->edges.items[e]);
            }
            marks[schedule->edges.items[e]] = 1;
        }
    }
    return WEIR_OK;
}

// Two windows on one value are in the order in which the graph has their operations, whatever the
// order of the schedule: it is the meaning of the graph.
static weir_status check_direction(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                                   const schedule_operand* x, const schedule_operand* y) {
    const schedule_dispatch* a = &schedule->dispatches.items[earlier];
    const schedule_dispatch* b = &schedule->dispatches.items[later];
    if (x->root == y->root && a->given > b->given) {
        return WEIR_FAIL(
            WEIR_INTERNAL,
            "dispatches %u (%s) and %u (%s) are in the wrong order: the graph has them "
            "the other way round",
            earlier, a->name, later, b->name);
    }
    return WEIR_OK;
}

static weir_status check_pair(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                              bool ordered) {
    const schedule_dispatch* a = &schedule->dispatches.items[earlier];
    const schedule_dispatch* b = &schedule->dispatches.items[later];
    for (uint32_t i = 0; i < a->operand_count; i++) {
        const schedule_operand* x = &schedule->operands.items[a->operand_begin + i];
        const weir_range x_range = weir_schedule_placed_range(schedule, x);
        for (uint32_t j = 0; j < b->operand_count; j++) {
            const schedule_operand* y = &schedule->operands.items[b->operand_begin + j];
            if ((x->kind | y->kind) == WEIR_ACCESS_READ || (ordered && x->root != y->root)) {
                continue;
            }
            const weir_range y_range = weir_schedule_placed_range(schedule, y);
            if (!weir_range_overlaps(&x_range, &y_range)) {
                continue;
            }
            if (!ordered) {
                return not_ordered(schedule, earlier, later, &x_range, &y_range);
            }
            WEIR_TRY(check_direction(schedule, earlier, later, x, y));
        }
    }
    return WEIR_OK;
}

// Operations that are computed together have no order among themselves: where one of them stores
// rows of a state, none reads them. A value of the arena may lie on one that its own kernel reads.
static weir_status check_together(const weir_schedule* schedule, uint32_t dispatch) {
    const schedule_dispatch* item = &schedule->dispatches.items[dispatch];
    const schedule_operand* operands = &schedule->operands.items[item->operand_begin];
    for (uint32_t i = 0; item->source_count > 1 && i < item->operand_count; i++) {
        for (uint32_t j = 0; j < item->operand_count; j++) {
            if (operands[i].root != operands[j].root || operands[i].kind != WEIR_ACCESS_READ ||
                operands[j].kind == WEIR_ACCESS_READ ||
                schedule->placements[operands[i].root].region != WEIR_REGION_STATE) {
                continue;
            }
            const weir_range read = weir_schedule_placed_range(schedule, &operands[i]);
            const weir_range written = weir_schedule_placed_range(schedule, &operands[j]);
            if (weir_range_overlaps(&read, &written)) {
                return WEIR_FAIL(WEIR_INTERNAL,
                                 "dispatch %u (%s) reads a state by operand %u where it writes it "
                                 "by operand %u",
                                 dispatch, item->name, i, j);
            }
        }
    }
    return WEIR_OK;
}

static weir_status check_pairs(const weir_schedule* schedule, uint8_t* marks) {
    for (uint32_t later = 0; later < schedule->dispatches.count; later++) {
        WEIR_TRY(check_together(schedule, later));
        WEIR_TRY(mark_ancestors(schedule, later, marks));
        for (uint32_t earlier = 0; earlier < later; earlier++) {
            WEIR_TRY(check_pair(schedule, earlier, later, marks[earlier] != 0));
        }
    }
    return WEIR_OK;
}

weir_status weir_schedule_check_plan(const weir_schedule* schedule) {
    const weir_plan_problem problem = weir_schedule_problem(schedule);
    return weir_plan_verify(&schedule->allocator, &problem,
                            weir_plan_entries(schedule->plan, NULL));
}

weir_status weir_schedule_check_pairs(const weir_schedule* schedule) {
    void* marks = NULL;
    WEIR_TRY(weir_alloc(&schedule->allocator, schedule->dispatches.count, 1, &marks));
    const weir_status status = check_pairs(schedule, marks);
    weir_free(&schedule->allocator, marks, schedule->dispatches.count, 1);
    return status;
}

weir_status weir_schedule_check(const weir_schedule* schedule) {
    WEIR_TRY(weir_schedule_check_plan(schedule));
    return weir_schedule_check_pairs(schedule);
}
