// Bytes against waits: one schedule after another, from the fewest waits to the fewest bytes, until
// one fits.
#include "schedule/schedule.h"

#define CAPS 6   // caps tried for one budget
#define STEPS 12 // budgets of a curve, between the most bytes and the fewest

static uint64_t min_u64(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

typedef struct subject {
    const weir_allocator* allocator;
    const weir_graph* graph;
    const weir_target* target;
    weir_schedule_options options;
} subject;

static weir_status build(const subject* s, schedule_policy policy, uint64_t cap,
                         weir_schedule** schedule) {
    return weir_schedule_build(s->allocator, s->graph, s->target, &s->options, policy, cap,
                               schedule);
}

// The policy of an order without a budget.
static schedule_policy policy_of(const subject* s) {
    switch (s->options.order) {
    case WEIR_ORDER_BYTES:
        return SCHEDULE_CAP;
    case WEIR_ORDER_GIVEN:
        return SCHEDULE_GIVEN;
    case WEIR_ORDER_WAITS:
        break;
    }
    return s->target->waits == WEIR_WAIT_GROUPS ? SCHEDULE_DEPTH : SCHEDULE_EARLY;
}

typedef struct attempt {
    schedule_policy policy;
    uint64_t cap;
} attempt;

// The next attempt after one that needed `excess` bytes too many; false where none is left. Placing
// may need more than the live bytes: the cap is then lowered by what was too much.
static bool next_attempt(const subject* s, attempt* a, uint64_t excess, uint32_t* caps) {
    if (a->policy < SCHEDULE_DEPTH && s->options.order == WEIR_ORDER_WAITS) {
        a->policy = SCHEDULE_DEPTH;
        return true;
    }
    if (a->policy != SCHEDULE_CAP) {
        *a = (attempt){.policy = SCHEDULE_CAP, .cap = s->options.byte_budget};
        return true;
    }
    if (a->cap == 0) {
        return false;
    }
    *caps += 1;
    a->cap = *caps < CAPS && excess < a->cap ? a->cap - excess : 0;
    return true;
}

static weir_status build_within(const subject* s, weir_schedule** schedule) {
    const uint64_t budget = s->options.byte_budget;
    attempt a = {.policy = policy_of(s)};
    uint64_t fewest = UINT64_MAX;
    uint32_t caps = 0;
    for (;;) {
        weir_schedule* made = NULL;
        WEIR_TRY(build(s, a.policy, a.cap, &made));
        const uint64_t bytes = made->report.arena_bytes;
        if (bytes <= budget) {
            *schedule = made;
            return WEIR_OK;
        }
        weir_schedule_destroy(made);
        fewest = min_u64(fewest, bytes);
        if (!next_attempt(s, &a, bytes - budget, &caps)) {
            return WEIR_FAIL(WEIR_INFEASIBLE,
                             "the arena needs %llu bytes in the smallest order that was found; the "
                             "budget is %llu",
                             (unsigned long long)fewest, (unsigned long long)budget);
        }
    }
}

static bool is_smaller(const weir_schedule_report* a, const weir_schedule_report* b) {
    if (a->arena_bytes != b->arena_bytes) {
        return a->arena_bytes < b->arena_bytes;
    }
    return a->waits != b->waits ? a->waits < b->waits : a->residual_edges < b->residual_edges;
}

// The fewest bytes, and of the orders that have them one with the fewest waits: what is searched
// for by waits may need no more bytes than what is searched for by bytes.
static weir_status build_smallest(const subject* s, weir_schedule** schedule) {
    static const schedule_policy policies[] = {SCHEDULE_EARLY, SCHEDULE_DEPTH, SCHEDULE_CAP};
    weir_schedule* best = NULL;
    weir_status status = WEIR_OK;
    for (int i = 0; status == WEIR_OK && i < 3; i++) {
        weir_schedule* made = NULL;
        status = build(s, policies[i], 0, &made);
        const bool better =
            status == WEIR_OK && (!best || is_smaller(&made->report, &best->report));
        weir_schedule_destroy(better ? best : made);
        best = better ? made : best;
    }
    if (status != WEIR_OK) {
        weir_schedule_destroy(best);
        return status;
    }
    *schedule = best;
    return WEIR_OK;
}

static weir_status check_options(const weir_schedule_options* options) {
    if (options->reuse != WEIR_REUSE_FREE &&
        (options->order == WEIR_ORDER_BYTES || options->byte_budget > 0)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "an order by bytes and a budget need the reuse of memory that is free; "
                         "the options ask for reuse %d",
                         (int)options->reuse);
    }
    if ((unsigned)options->order > WEIR_ORDER_GIVEN || (unsigned)options->reuse > WEIR_REUSE_NONE) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "the options ask for order %d and reuse %d",
                         (int)options->order, (int)options->reuse);
    }
    return WEIR_OK;
}

weir_status weir_schedule_create(const weir_allocator* allocator, const weir_graph* graph,
                                 const weir_target* target, const weir_schedule_options* options,
                                 weir_schedule** schedule) {
    const subject s = {.allocator = allocator,
                       .graph = graph,
                       .target = target,
                       .options = options ? *options : (weir_schedule_options){0}};
    WEIR_TRY(check_options(&s.options));
    if (s.options.byte_budget > 0) {
        return build_within(&s, schedule);
    }
    return s.options.order == WEIR_ORDER_BYTES ? build_smallest(&s, schedule)
                                               : build(&s, policy_of(&s), 0, schedule);
}

// Whether a point is at least as good as another in everything.
static bool covers(const weir_tradeoff_point* a, const weir_tradeoff_point* b) {
    return a->arena_bytes <= b->arena_bytes && a->waits <= b->waits &&
           a->residual_edges <= b->residual_edges;
}

typedef struct curve {
    weir_tradeoff_point* points;
    uint32_t capacity, count;
} curve;

// Points come with falling bytes, the one with the fewest last.
static void add_point(curve* c, const weir_tradeoff_point* point) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (covers(&c->points[i], point)) {
            return;
        }
    }
    for (uint32_t i = 0; i < c->count; i++) {
        if (!covers(point, &c->points[i])) {
            c->points[kept++] = c->points[i];
        }
    }
    c->count = kept < c->capacity ? kept + 1 : c->capacity;
    c->points[c->count - 1] = *point;
}

// Makes and checks one schedule and describes it.
static weir_status try_point(subject* s, weir_order order, uint64_t budget,
                             weir_tradeoff_point* point) {
    weir_schedule* schedule = NULL;
    s->options.order = order;
    s->options.byte_budget = budget;
    WEIR_TRY(weir_schedule_create(s->allocator, s->graph, s->target, &s->options, &schedule));
    const weir_status status = weir_schedule_check(schedule);
    const weir_schedule_report* report = &schedule->report;
    if (status == WEIR_OK) {
        *point = (weir_tradeoff_point){.order = order,
                                       .byte_budget = budget,
                                       .arena_bytes = report->arena_bytes,
                                       .bound_bytes = report->bound_bytes,
                                       .waits = report->waits,
                                       .residual_edges = report->residual_edges};
    }
    weir_schedule_destroy(schedule);
    return status;
}

weir_status weir_schedule_tradeoff(const weir_allocator* allocator, const weir_graph* graph,
                                   const weir_target* target, const weir_schedule_options* options,
                                   weir_tradeoff_point* points, uint32_t capacity,
                                   uint32_t* count) {
    subject s = {.allocator = allocator,
                 .graph = graph,
                 .target = target,
                 .options = options ? *options : (weir_schedule_options){0}};
    curve c = {.points = points, .capacity = capacity};
    weir_tradeoff_point point;
    weir_tradeoff_point least;
    if (s.options.reuse != WEIR_REUSE_FREE || capacity < 2) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "a curve needs the reuse of memory that is free and room for two points, "
                         "not reuse %d and room for %u",
                         (int)s.options.reuse, capacity);
    }
    WEIR_TRY(try_point(&s, WEIR_ORDER_BYTES, 0, &least));
    WEIR_TRY(try_point(&s, WEIR_ORDER_WAITS, 0, &point));
    const uint64_t most = point.arena_bytes;
    const uint64_t step = most > least.arena_bytes ? (most - least.arena_bytes) / STEPS : 0;
    add_point(&c, &point);
    while (point.arena_bytes > least.arena_bytes) {
        const uint64_t below = point.arena_bytes - 1;
        const uint64_t budget = step < below - least.arena_bytes ? below - step : least.arena_bytes;
        WEIR_TRY(try_point(&s, WEIR_ORDER_WAITS, budget, &point));
        add_point(&c, &point);
    }
    add_point(&c, &least);
    *count = c.count;
    return WEIR_OK;
}
