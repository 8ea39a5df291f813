// What needs the waits of a schedule: each boundary, and each edge that reuse has added.
#include <weir/explain.h>

#include "schedule/schedule.h"

typedef struct need_walk {
    const weir_schedule* schedule;
    weir_wait_need_fn visit;
    void* context;
} need_walk;

// Visits every reason why one dispatch follows another.
static weir_status visit_reasons(const need_walk* walk, weir_wait_need need, bool reuse_only) {
    weir_reason reasons[SCHEDULE_REASONS_MAX];
    const uint32_t count = weir_schedule_reasons(walk->schedule, need.earlier, need.later, reasons);
    for (uint32_t i = 0; i < count; i++) {
        if (reasons[i].reuse || !reuse_only) {
            need.reason = reasons[i];
            WEIR_TRY(walk->visit(walk->context, &need));
        }
    }
    return WEIR_OK;
}

static weir_status visit_verdict(const need_walk* walk, uint32_t later,
                                 const weir_verdict* verdict) {
    const schedule_dispatch* dispatches = walk->schedule->dispatches.items;
    uint32_t last = UINT32_MAX;
    for (uint32_t h = 0; h < verdict->hazard_count; h++) {
        const uint32_t earlier = verdict->hazards[h].earlier;
        if (earlier == last) { // by earlier dispatch, rising
            continue;
        }
        last = earlier;
        const weir_wait_need need = {
            .boundary = dispatches[later].group,
            .earlier = earlier,
            .later = later,
            .only = dispatches[earlier].group + 1 == dispatches[later].group,
        };
        WEIR_TRY(visit_reasons(walk, need, false));
    }
    return WEIR_OK;
}

weir_status weir_boundary_visit(const weir_schedule* schedule, weir_wait_need_fn visit,
                                void* context) {
    const need_walk walk = {.schedule = schedule, .visit = visit, .context = context};
    if (schedule->target.waits != WEIR_WAIT_GROUPS) {
        return WEIR_OK;
    }
    weir_tracker* tracker = NULL;
    WEIR_TRY(weir_tracker_create(&schedule->allocator, WEIR_TRACKER_DAG, &tracker));
    weir_status status = WEIR_OK;
    for (uint32_t d = 0; status == WEIR_OK && d < schedule->dispatches.count; d++) {
        weir_verdict verdict;
        status = weir_schedule_track(schedule, d, tracker, &verdict);
        if (status == WEIR_OK) {
            status = visit_verdict(&walk, d, &verdict);
        }
    }
    weir_tracker_destroy(tracker);
    return status;
}

weir_status weir_residual_visit(const weir_schedule* schedule, weir_wait_need_fn visit,
                                void* context) {
    const need_walk walk = {.schedule = schedule, .visit = visit, .context = context};
    const bool groups = schedule->target.waits == WEIR_WAIT_GROUPS;
    for (size_t i = 0; i < schedule->residual.count; i++) {
        const schedule_edge* edge = &schedule->residual.items[i];
        const weir_wait_need need = {
            .boundary = groups ? schedule->dispatches.items[edge->to].group : 0,
            .earlier = edge->from,
            .later = edge->to,
            .only = !groups || schedule->dispatches.items[edge->from].group + 1 ==
                                   schedule->dispatches.items[edge->to].group,
        };
        WEIR_TRY(visit_reasons(&walk, need, true));
    }
    return WEIR_OK;
}
