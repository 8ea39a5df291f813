#include <stdlib.h>
#include <weir/plan.h>

#include "base/checked.h"
#include "plan/plan_box.h"

// Two buffers need an order between their accesses exactly when they share a byte, whatever the
// planner's reasons were: so this looks at entries alone, knows neither conflicts nor lives, and
// serves plans from elsewhere too. The pairs are many where much is reused, and are visited one by
// one rather than listed.

// Buffers of one position are those of one dispatch: the index then decides, for some order there
// must be.
static bool is_earlier(const uint32_t* positions, uint32_t a, uint32_t b) {
    if (positions && positions[a] != positions[b]) {
        return positions[a] < positions[b];
    }
    return a < b;
}

// Each box meets those that begin inside it: sorted, they follow it.
static weir_status visit_pairs(const plan_box* boxes, uint32_t count, const uint32_t* positions,
                               weir_plan_sharing_fn visit, void* context) {
    for (uint32_t i = 0; i < count; ++i) {
        const plan_box* a = &boxes[i];
        for (uint32_t j = i + 1; j < count; ++j) {
            const plan_box* b = &boxes[j];
            if (b->pool != a->pool || b->block != a->block || b->begin >= a->end) {
                break;
            }
            const bool a_first = is_earlier(positions, a->buffer, b->buffer);
            WEIR_TRY(
                visit(context, a_first ? a->buffer : b->buffer, a_first ? b->buffer : a->buffer));
        }
    }
    return WEIR_OK;
}

weir_status weir_plan_sharing(const weir_allocator* allocator, const weir_plan_entry* entries,
                              uint32_t count, const uint32_t* positions, weir_plan_sharing_fn visit,
                              void* context) {
    plan_box* boxes = NULL;
    const size_t byte_size = count * sizeof *boxes;
    WEIR_TRY(weir_alloc(allocator, byte_size, _Alignof(plan_box), (void**)&boxes));
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const weir_plan_entry* entry = &entries[i];
        uint64_t end = 0;
        if (!add_u64(entry->byte_offset, entry->byte_size, &end)) {
            end = UINT64_MAX; // no plan of this library
        }
        if (entry->byte_size > 0) {
            boxes[used++] = (plan_box){.begin = entry->byte_offset,
                                       .end = end,
                                       .pool = entry->pool,
                                       .block = entry->block,
                                       .buffer = i};
        }
    }
    if (used > 0) {
        qsort(boxes, used, sizeof *boxes, plan_box_compare);
    }
    const weir_status status = visit_pairs(boxes, used, positions, visit, context);
    weir_free(allocator, boxes, byte_size, _Alignof(plan_box));
    return status;
}

uint64_t weir_plan_penalty_of(const weir_plan_problem* problem, const weir_plan_entry* entries) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < problem->penalty_count; ++i) {
        const weir_plan_entry* a = &entries[problem->penalties[i].a];
        const weir_plan_entry* b = &entries[problem->penalties[i].b];
        const uint64_t distance = a->byte_offset < b->byte_offset ? b->byte_offset - a->byte_offset
                                                                  : a->byte_offset - b->byte_offset;
        const weir_plan_entry* lower = a->byte_offset < b->byte_offset ? a : b;
        // Distance below the size of the lower one: no sum of offset and size, which might pass
        // 2^64.
        const bool shares = a->pool == b->pool && a->block == b->block && a->byte_size > 0 &&
                            b->byte_size > 0 && distance < lower->byte_size;
        if (shares && !add_u64(sum, problem->penalties[i].weight, &sum)) {
            return UINT64_MAX;
        }
    }
    return sum;
}
