#include "schedule/schedule.h"

static void end_phase(const weir_schedule* schedule, const char* name) {
    if (schedule->options.phase) {
        schedule->options.phase(schedule->options.phase_context, name);
    }
}

weir_status weir_schedule_begin(const weir_allocator* allocator, const weir_target* target,
                                const weir_schedule_options* options, schedule_policy policy,
                                weir_schedule** schedule) {
    weir_schedule* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    made->allocator = allocator ? *allocator : (weir_allocator){0};
    made->target = *target;
    made->target.alignment = target->alignment > 0 ? target->alignment : 1;
    made->options = *options;
    made->policy = policy;
    *schedule = made;
    return WEIR_OK;
}

weir_status weir_schedule_finish(weir_schedule* schedule) {
    weir_schedule_report* report = &schedule->report;
    WEIR_TRY(weir_schedule_add_buffers(schedule));
    end_phase(schedule, "lower");
    WEIR_TRY(weir_schedule_find_edges(schedule));
    end_phase(schedule, "edges");
    WEIR_TRY(weir_schedule_close(schedule));
    report->depth = report->waits;
    end_phase(schedule, "close");
    WEIR_TRY(weir_schedule_form_groups(schedule));
    end_phase(schedule, "order");
    WEIR_TRY(weir_schedule_place_values(schedule));
    end_phase(schedule, "plan");
    WEIR_TRY(weir_schedule_add_residual(schedule));
    WEIR_TRY(weir_schedule_settle(schedule));
    end_phase(schedule, "residual");
    report->dispatches = (uint32_t)schedule->dispatches.count;
    report->waits_naive = report->dispatches - 1;
    report->waits_elided = report->waits_naive - report->waits;
    WEIR_TRY(weir_schedule_check_tracked(schedule));
    end_phase(schedule, "check");
    return WEIR_OK;
}

weir_status weir_schedule_build(const weir_allocator* allocator, const weir_graph* graph,
                                const weir_target* target, const weir_schedule_options* options,
                                schedule_policy policy, uint64_t cap, weir_schedule** schedule) {
    weir_schedule* made = NULL;
    WEIR_TRY(weir_schedule_begin(allocator, target, options, policy, &made));
    made->cap = cap;
    weir_status status = weir_schedule_lower(made, graph);
    if (status == WEIR_OK) {
        status = weir_schedule_finish(made);
    }
    if (status != WEIR_OK) {
        weir_schedule_destroy(made);
        return status;
    }
    *schedule = made;
    return WEIR_OK;
}

static void free_words(weir_schedule* schedule, void* words, size_t byte_size) {
    weir_free(&schedule->allocator, words, byte_size, _Alignof(max_align_t));
}

void weir_schedule_destroy(weir_schedule* schedule) {
    if (!schedule) {
        return;
    }
    const weir_allocator allocator = schedule->allocator;
    const size_t values = schedule->values.count;
    weir_plan_destroy(schedule->plan);
    weir_schedule_bits_free(&allocator, &schedule->precedes);
    weir_schedule_bits_free(&allocator, &schedule->ancestors);
    free_words(schedule, schedule->placements, values * sizeof(weir_placement));
    free_words(schedule, schedule->buffers, values * sizeof(uint32_t));
    free_words(schedule, schedule->uses.begins, (values + 1) * sizeof(uint32_t));
    free_words(schedule, schedule->edges.begins,
               (schedule->dispatches.count + 1) * sizeof(uint32_t));
    array_free(&allocator, &schedule->uses);
    array_free(&allocator, &schedule->edges);
    array_free(&allocator, &schedule->residual);
    array_free(&allocator, &schedule->plan_buffers);
    array_free(&allocator, &schedule->plan_intervals);
    array_free(&allocator, &schedule->plan_pairs);
    array_free(&allocator, &schedule->sources);
    array_free(&allocator, &schedule->names);
    array_free(&allocator, &schedule->operands);
    array_free(&allocator, &schedule->dispatches);
    array_free(&allocator, &schedule->params);
    array_free(&allocator, &schedule->values);
    object_free(&allocator, schedule);
}

const weir_schedule_report* weir_schedule_report_of(const weir_schedule* schedule) {
    return &schedule->report;
}

const weir_plan* weir_schedule_plan(const weir_schedule* schedule) {
    return schedule->plan;
}

weir_status weir_schedule_dispatch(const weir_schedule* schedule, uint32_t dispatch,
                                   weir_dispatch_info* info) {
    if (dispatch >= schedule->dispatches.count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no dispatch %u, the schedule has %zu", dispatch,
                         schedule->dispatches.count);
    }
    const schedule_dispatch* item = &schedule->dispatches.items[dispatch];
    const uint32_t begin = schedule->edges.begins[dispatch];
    *info = (weir_dispatch_info){
        .name = item->name,
        .op = item->op,
        .kernel = item->kernel,
        .sources = schedule->sources.items + item->source_begin,
        .source_count = item->source_count,
        .predecessors = schedule->edges.items + begin,
        .predecessor_count = schedule->edges.begins[dispatch + 1] - begin,
        .level = item->level,
        .group = item->group,
    };
    return WEIR_OK;
}

weir_status weir_schedule_place(const weir_schedule* schedule, weir_value value,
                                weir_placement* placement) {
    if (value >= schedule->values.count) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no value %u, the schedule has %zu", value,
                         schedule->values.count);
    }
    *placement = schedule->placements[value];
    return WEIR_OK;
}

const weir_value_info* weir_schedule_value(const weir_schedule* schedule, weir_value value) {
    return value < schedule->values.count ? &schedule->values.items[value] : NULL;
}

uint32_t weir_schedule_groups(const weir_schedule* schedule) {
    return schedule->target.waits == WEIR_WAIT_GROUPS ? schedule->group_count : 0;
}

weir_status weir_schedule_group(const weir_schedule* schedule, uint32_t group, uint32_t* begin,
                                uint32_t* end) {
    if (group >= weir_schedule_groups(schedule)) {
        return WEIR_FAIL(WEIR_NOT_FOUND, "no group %u, the schedule has %u", group,
                         weir_schedule_groups(schedule));
    }
    // Dispatches are numbered by group, and no group is empty.
    uint32_t low = group;
    uint32_t high = (uint32_t)schedule->dispatches.count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const bool below = schedule->dispatches.items[middle].group < group;
        low = below ? middle + 1 : low;
        high = below ? high : middle;
    }
    *begin = low;
    while (low < schedule->dispatches.count && schedule->dispatches.items[low].group == group) {
        low++;
    }
    *end = low;
    return WEIR_OK;
}
