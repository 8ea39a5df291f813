#include "schedule/schedule.h"

#include <stdlib.h>

typedef struct edge_list {
    schedule_edge* items;
    size_t count, capacity;
} edge_list;

// What the walk over the pairs that share bytes needs.
typedef struct residual_walk {
    weir_schedule* schedule;
    weir_value* values; // of each buffer of the plan
    uint32_t* first_uses;
    edge_list added;
} residual_walk;

bool weir_schedule_shares_bytes(const weir_schedule* schedule, uint32_t from, weir_value earlier,
                                uint32_t to, weir_value later) {
    const schedule_dispatch* a = &schedule->dispatches.items[from];
    const schedule_dispatch* b = &schedule->dispatches.items[to];
    for (uint32_t i = 0; i < a->operand_count; i++) {
        const schedule_operand* x = &schedule->operands.items[a->operand_begin + i];
        for (uint32_t k = 0; x->root == earlier && k < b->operand_count; k++) {
            const schedule_operand* y = &schedule->operands.items[b->operand_begin + k];
            const weir_range x_bytes = weir_schedule_placed_range(schedule, x);
            const weir_range y_bytes = weir_schedule_placed_range(schedule, y);
            if (y->root == later && ((x->kind | y->kind) & WEIR_ACCESS_WRITE) != 0 &&
                weir_range_overlaps(&x_bytes, &y_bytes)) {
                return true;
            }
        }
    }
    return false;
}

// Orders the accesses of `earlier` before those of `later` that share a byte with them and are not
// ordered yet. The dispatch that puts `later` on the bytes of `earlier` in place touches both.
static weir_status order_values(weir_schedule* schedule, weir_value earlier, weir_value later,
                                edge_list* added) {
    uint32_t from_count = 0;
    uint32_t to_count = 0;
    const uint32_t* from = schedule_uses_of(schedule, earlier, &from_count);
    const uint32_t* to = schedule_uses_of(schedule, later, &to_count);
    for (uint32_t t = 0; t < to_count; t++) {
        for (uint32_t f = 0; f < from_count && from[f] < to[t]; f++) {
            if (!schedule_bit(&schedule->ancestors, to[t], from[f]) &&
                weir_schedule_shares_bytes(schedule, from[f], earlier, to[t], later)) {
                WEIR_TRY(array_reserve(&schedule->allocator, added, added->count + 1));
                added->items[added->count++] = (schedule_edge){.from = from[f], .to = to[t]};
            }
        }
    }
    return WEIR_OK;
}

static weir_status order_pair(void* context, uint32_t earlier, uint32_t later) {
    residual_walk* walk = context;
    return order_values(walk->schedule, walk->values[earlier], walk->values[later], &walk->added);
}

static weir_status find_residual(residual_walk* walk) {
    uint32_t count = 0;
    const weir_plan_entry* entries = weir_plan_entries(walk->schedule->plan, &count);
    return weir_plan_sharing(&walk->schedule->allocator, entries, count, walk->first_uses,
                             order_pair, walk);
}

static weir_status start_walk(weir_schedule* schedule, residual_walk* walk) {
    const size_t byte_size = schedule->plan_buffers.count * sizeof(uint32_t);
    WEIR_TRY(
        weir_alloc(&schedule->allocator, byte_size, _Alignof(uint32_t), (void**)&walk->values));
    WEIR_TRY(
        weir_alloc(&schedule->allocator, byte_size, _Alignof(uint32_t), (void**)&walk->first_uses));
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const uint32_t buffer = schedule->buffers[value];
        if (buffer != WEIR_PLAN_NONE) {
            uint32_t uses = 0;
            walk->values[buffer] = value;
            walk->first_uses[buffer] = schedule_uses_of(schedule, value, &uses)[0];
        }
    }
    return WEIR_OK;
}

static void end_walk(weir_schedule* schedule, residual_walk* walk) {
    const size_t byte_size = schedule->plan_buffers.count * sizeof(uint32_t);
    weir_free(&schedule->allocator, walk->values, byte_size, _Alignof(uint32_t));
    weir_free(&schedule->allocator, walk->first_uses, byte_size, _Alignof(uint32_t));
    array_free(&schedule->allocator, &walk->added);
}

static int compare_targets(const void* a, const void* b) {
    const schedule_edge* x = a;
    const schedule_edge* y = b;
    return x->to < y->to ? -1 : x->to > y->to;
}

// Merges the added edges into the edge lists; they are reduced afterwards.
static weir_status merge_edges(weir_schedule* schedule, const edge_list* added) {
    const uint32_t count = (uint32_t)schedule->dispatches.count;
    schedule_edges merged = {0};
    void* begins = NULL;
    WEIR_TRY(weir_alloc_zeroed(&schedule->allocator, (count + 1) * sizeof(uint32_t), &begins));
    merged.begins = begins;
    weir_status status =
        array_reserve(&schedule->allocator, &merged, schedule->edges.count + added->count);
    size_t next = 0;
    qsort(added->items, added->count, sizeof *added->items, compare_targets);
    for (uint32_t i = 0; status == WEIR_OK && i < count; i++) {
        merged.begins[i] = (uint32_t)merged.count;
        for (uint32_t e = schedule->edges.begins[i]; e < schedule->edges.begins[i + 1]; e++) {
            merged.items[merged.count++] = schedule->edges.items[e];
        }
        for (; next < added->count && added->items[next].to == i; next++) {
            merged.items[merged.count++] = added->items[next].from;
        }
    }
    merged.begins[count] = (uint32_t)merged.count;
    schedule_edges* stale = status == WEIR_OK ? &schedule->edges : &merged;
    array_free(&schedule->allocator, stale);
    weir_free(&schedule->allocator, stale->begins, (count + 1) * sizeof(uint32_t),
              _Alignof(max_align_t));
    if (status == WEIR_OK) {
        schedule->edges = merged;
    }
    return status;
}

// Lists the edges of the reduced DAG that the data flow alone does not imply.
static weir_status list_residual(weir_schedule* schedule, const schedule_bits* data_flow) {
    for (uint32_t i = 0; i < schedule->dispatches.count; i++) {
        for (uint32_t e = schedule->edges.begins[i]; e < schedule->edges.begins[i + 1]; e++) {
            const uint32_t from = schedule->edges.items[e];
            if (!schedule_bit(data_flow, i, from)) {
                WEIR_TRY(array_reserve(&schedule->allocator, &schedule->residual,
                                       schedule->residual.count + 1));
                schedule->residual.items[schedule->residual.count++] =
                    (schedule_edge){.from = from, .to = i};
            }
        }
    }
    schedule->report.residual_edges = (uint32_t)schedule->residual.count;
    return WEIR_OK;
}

static weir_status order_sharing(weir_schedule* schedule, residual_walk* walk) {
    schedule_bits data_flow = {0};
    weir_status status = find_residual(walk);
    if (status != WEIR_OK || walk->added.count == 0) {
        return status;
    }
    data_flow = schedule->ancestors;
    schedule->ancestors = (schedule_bits){0};
    status = merge_edges(schedule, &walk->added);
    if (status == WEIR_OK) {
        status = weir_schedule_close(schedule);
    }
    if (status == WEIR_OK) {
        status = list_residual(schedule, &data_flow);
    }
    weir_schedule_bits_free(&schedule->allocator, &data_flow);
    return status;
}

// Orders by edges whatever shares bytes and is not ordered by the flow of data. Where boundaries
// wait, the groups follow from these edges afterwards.
weir_status weir_schedule_add_residual(weir_schedule* schedule) {
    if (!schedule_has_residual(schedule)) {
        return WEIR_OK;
    }
    residual_walk walk = {.schedule = schedule};
    weir_status status = start_walk(schedule, &walk);
    if (status == WEIR_OK) {
        status = order_sharing(schedule, &walk);
    }
    end_walk(schedule, &walk);
    return status;
}
