#include <weir/explain.h>

#include <string.h>

#include "schedule/schedule.h"

#define UNREACHED UINT32_MAX

// What the later access suffers from: reading stale bytes outweighs being overwritten.
static weir_hazard_kind hazard_of(weir_access_kind earlier, weir_access_kind later) {
    if ((earlier & WEIR_ACCESS_WRITE) == 0) {
        return WEIR_HAZARD_WAR;
    }
    return (later & WEIR_ACCESS_READ) != 0 ? WEIR_HAZARD_RAW : WEIR_HAZARD_WAW;
}

// Whether `later` was put on the bytes of `earlier`, directly or through others in between.
static bool is_placed_on(const weir_schedule* schedule, weir_value later, weir_value earlier) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(schedule->plan, &count);
    const uint32_t wanted = schedule->buffers[earlier];
    uint32_t buffer = schedule->buffers[later];
    // A chain is never longer than the list: one that is comes from a plan that is wrong.
    for (uint32_t i = 0; i < count && buffer != WEIR_PLAN_NONE && wanted != WEIR_PLAN_NONE; i++) {
        buffer = entries[buffer].placed_on;
        if (buffer == wanted) {
            return true;
        }
    }
    return false;
}

static void add_reason(const weir_schedule* schedule, const schedule_operand* earlier,
                       const schedule_operand* later, weir_reason* reasons, uint32_t* count) {
    const weir_range earlier_range = weir_schedule_placed_range(schedule, earlier);
    const weir_range later_range = weir_schedule_placed_range(schedule, later);
    if ((earlier->kind | later->kind) == WEIR_ACCESS_READ ||
        !weir_range_overlaps(&earlier_range, &later_range)) {
        return;
    }
    reasons[(*count)++] = (weir_reason){
        .kind = hazard_of(earlier->kind, later->kind),
        .earlier_value = earlier->value,
        .later_value = later->value,
        .earlier_range = earlier_range,
        .later_range = later_range,
        .region = schedule->placements[earlier->root].region,
        .block = schedule->placements[earlier->root].block,
        .reuse = earlier->root != later->root,
        .in_place = is_placed_on(schedule, later->root, earlier->root),
    };
}

uint32_t weir_schedule_reasons(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                               weir_reason reasons[SCHEDULE_REASONS_MAX]) {
    uint32_t count = 0;
    const schedule_dispatch* a = &schedule->dispatches.items[earlier];
    const schedule_dispatch* b = &schedule->dispatches.items[later];
    for (uint32_t i = 0; i < a->operand_count; i++) {
        for (uint32_t k = 0; k < b->operand_count; k++) {
            add_reason(schedule, &schedule->operands.items[a->operand_begin + i],
                       &schedule->operands.items[b->operand_begin + k], reasons, &count);
        }
    }
    return count;
}

typedef struct step {
    uint32_t distance; // edges from here to the later dispatch
    uint32_t next;     // on the way there
} step;

// Fills the steps of what lies before `later`. Edges lead to smaller numbers only: going down, each
// dispatch is met after all that wait for it.
static void measure(const weir_schedule* schedule, uint32_t earlier, uint32_t later, step* steps) {
    for (uint32_t i = 0; i < later; i++) {
        steps[i].distance = UNREACHED;
    }
    steps[later] = (step){.distance = 0, .next = later};
    for (uint32_t i = later; i > earlier; i--) {
        for (uint32_t e = schedule->edges.begins[i]; e < schedule->edges.begins[i + 1]; e++) {
            const uint32_t before = schedule->edges.items[e];
            if (steps[i].distance != UNREACHED && before < i &&
                steps[i].distance + 1 < steps[before].distance) {
                steps[before] = (step){.distance = steps[i].distance + 1, .next = i};
            }
        }
    }
}

static weir_status find_path(const weir_schedule* schedule, uint32_t earlier, uint32_t later,
                             weir_why* why) {
    const size_t byte_size = (later + 1) * sizeof(step);
    void* memory = NULL;
    WEIR_TRY(weir_alloc(&why->allocator, byte_size, _Alignof(step), &memory));
    step* steps = memory;
    weir_status status = WEIR_OK;
    measure(schedule, earlier, later, steps);
    if (steps[earlier].distance != UNREACHED) {
        const uint32_t count = steps[earlier].distance + 1;
        status = weir_alloc(&why->allocator, count * sizeof *why->path, _Alignof(uint32_t),
                            (void**)&why->path);
        for (uint32_t at = earlier; status == WEIR_OK && why->path_count < count;) {
            why->path[why->path_count++] = at;
            at = steps[at].next;
        }
    }
    weir_free(&why->allocator, memory, byte_size, _Alignof(step));
    return status;
}

weir_status weir_why_find(const weir_allocator* allocator, const weir_schedule* schedule,
                          uint32_t earlier, uint32_t later, weir_why* why) {
    weir_dispatch_info info;
    WEIR_TRY(weir_schedule_dispatch(schedule, earlier, &info));
    WEIR_TRY(weir_schedule_dispatch(schedule, later, &info));
    if (earlier >= later) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "dispatch %u is not before dispatch %u", earlier,
                         later);
    }
    weir_why found = {.ordered = schedule_bit(&schedule->ancestors, later, earlier),
                      .fenced = schedule->options.fence_all};
    found.allocator = allocator ? *allocator : (weir_allocator){0};
    WEIR_TRY(weir_alloc(&found.allocator, SCHEDULE_REASONS_MAX * sizeof(weir_reason),
                        _Alignof(weir_reason), (void**)&found.reasons));
    found.reason_count = weir_schedule_reasons(schedule, earlier, later, found.reasons);
    const weir_status status = find_path(schedule, earlier, later, &found);
    if (status != WEIR_OK) {
        weir_why_free(&found);
        return status;
    }
    found.edge = found.path_count == 2;
    *why = found;
    return WEIR_OK;
}

void weir_why_free(weir_why* why) {
    weir_free(&why->allocator, why->reasons, SCHEDULE_REASONS_MAX * sizeof(weir_reason),
              _Alignof(weir_reason));
    weir_free(&why->allocator, why->path, why->path_count * sizeof *why->path, _Alignof(uint32_t));
    *why = (weir_why){0};
}

// Whether the accesses of `earlier` come before those of `later` that share a byte with them; the
// dispatch that makes the one of the other in place touches both.
static bool is_ordered(const weir_schedule* schedule, const weir_sharing* sharing) {
    const weir_value earlier = schedule->values.items[sharing->earlier].root;
    const weir_value later = schedule->values.items[sharing->later].root;
    uint32_t from_count = 0;
    uint32_t to_count = 0;
    const uint32_t* from = schedule_uses_of(schedule, earlier, &from_count);
    const uint32_t* to = schedule_uses_of(schedule, later, &to_count);
    for (uint32_t i = 0; i < from_count; i++) {
        for (uint32_t k = 0; k < to_count; k++) {
            const bool makes = sharing->in_place && from[i] == to[k] && k == 0;
            if (!makes && !schedule_bit(&schedule->ancestors, to[k], from[i]) &&
                weir_schedule_shares_bytes(schedule, from[i], earlier, to[k], later)) {
                return false;
            }
        }
    }
    return true;
}

// Fills what orders two values that lie on the same bytes.
static void order_values(const weir_schedule* schedule, weir_value a, weir_value b,
                         weir_sharing* sharing) {
    uint32_t a_count = 0;
    uint32_t b_count = 0;
    const uint32_t* a_uses = schedule_uses_of(schedule, schedule->values.items[a].root, &a_count);
    const uint32_t* b_uses = schedule_uses_of(schedule, schedule->values.items[b].root, &b_count);
    const bool a_first = a_uses[0] <= b_uses[0];
    sharing->earlier = a_first ? a : b;
    sharing->later = a_first ? b : a;
    sharing->last_use = a_first ? a_uses[a_count - 1] : b_uses[b_count - 1];
    sharing->first_use = a_first ? b_uses[0] : a_uses[0];
    sharing->in_place = is_placed_on(schedule, schedule->values.items[sharing->later].root,
                                     schedule->values.items[sharing->earlier].root);
    sharing->ordered = is_ordered(schedule, sharing);
}

static bool is_used(const weir_schedule* schedule, weir_value value) {
    uint32_t count = 0;
    schedule_uses_of(schedule, schedule->values.items[value].root, &count);
    return count > 0;
}

weir_status weir_schedule_sharing(const weir_schedule* schedule, weir_value a, weir_value b,
                                  weir_sharing* sharing) {
    weir_placement x;
    weir_placement y;
    WEIR_TRY(weir_schedule_place(schedule, a, &x));
    WEIR_TRY(weir_schedule_place(schedule, b, &y));
    const bool same = schedule->values.items[a].root == schedule->values.items[b].root;
    const bool outside = x.region == WEIR_REGION_WEIGHT || x.region == WEIR_REGION_STATE;
    weir_sharing found = {
        .region = x.region, .block = x.block, .same = same, .earlier = a, .later = b};
    const uint64_t begin = x.byte_offset > y.byte_offset ? x.byte_offset : y.byte_offset;
    const uint64_t x_end = x.byte_offset + x.byte_size;
    const uint64_t y_end = y.byte_offset + y.byte_size;
    const uint64_t end = x_end < y_end ? x_end : y_end;
    // Weights and states are memory of their own: their offsets say nothing about each other.
    found.shares = x.region == y.region && x.block == y.block && (same || !outside) &&
                   begin < end && is_used(schedule, a) && is_used(schedule, b);
    if (found.shares) {
        found.byte_offset = begin;
        found.byte_length = end - begin;
    }
    if (found.shares && !same) {
        order_values(schedule, a, b, &found);
    }
    *sharing = found;
    return WEIR_OK;
}

const char* weir_region_name(weir_region region) {
    static const char* const names[] = {"arena", "input", "output", "weight", "state"};
    return (unsigned)region < sizeof names / sizeof *names ? names[region] : "unknown";
}
