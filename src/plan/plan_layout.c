#include "plan/plan_layout.h"

#include <stdlib.h>

__extension__ typedef unsigned __int128 u128;

// Maps and drawings show boxes: bytes from left to right and time downwards. Aliases lie inside the
// box of their root and are left out. Reports are drawn of wrong plans above all, so overlaps are
// no fault here, and only what would break the arithmetic of the drawing is refused.

uint64_t plan_layout_scale(uint64_t a, uint64_t b, uint64_t c) {
    return (uint64_t)((u128)a * b / c);
}

uint32_t plan_layout_lives(const plan_layout* layout, uint32_t buffer) {
    const uint32_t count = layout->report->problem->buffers[buffer].interval_count;
    return count > 0 ? count : 1;
}

weir_plan_interval plan_layout_life(const plan_layout* layout, uint32_t buffer, uint32_t life) {
    const weir_plan_problem* problem = layout->report->problem;
    const weir_plan_buffer* live = &problem->buffers[buffer];
    if (live->interval_count == 0) {
        return (weir_plan_interval){layout->clock_begin, layout->clock_end};
    }
    return problem->intervals[live->interval_begin + life];
}

uint32_t plan_layout_block(const plan_layout* layout, uint32_t first, uint64_t* byte_size) {
    const plan_box* box = &layout->boxes[first];
    uint32_t count = 0;
    *byte_size = 0;
    while (first + count < layout->count && box[count].pool == box->pool &&
           box[count].block == box->block) {
        *byte_size = box[count].end > *byte_size ? box[count].end : *byte_size;
        ++count;
    }
    return count;
}

// Plans come from anywhere: what is drawn without a further look is checked here.
static weir_status check_buffer(const weir_plan_report* report, uint32_t index) {
    const weir_plan_problem* problem = report->problem;
    const weir_plan_buffer* buffer = &problem->buffers[index];
    const weir_plan_entry* entry = &report->entries[index];
    const uint64_t end = (uint64_t)buffer->interval_begin + buffer->interval_count;
    if (buffer->interval_count > 0 && (!problem->intervals || end > problem->interval_count)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: intervals up to %llu of %u", index,
                         (unsigned long long)end, problem->interval_count);
    }
    if (entry->byte_offset > INT64_MAX || entry->byte_size > INT64_MAX - entry->byte_offset) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: [%llu, +%llu) passes 2^63 - 1", index,
                         (unsigned long long)entry->byte_offset,
                         (unsigned long long)entry->byte_size);
    }
    return WEIR_OK;
}

// The clock runs from the first birth to the last death. What always lives fills it and does not
// widen it; where nothing else lives it has one moment, so that there is something to divide by.
static void set_clock(plan_layout* layout) {
    const weir_plan_problem* problem = layout->report->problem;
    layout->clock_begin = INT64_MAX;
    layout->clock_end = INT64_MIN;
    for (uint32_t i = 0; i < layout->count; ++i) {
        const weir_plan_buffer* buffer = &problem->buffers[layout->boxes[i].buffer];
        for (uint32_t k = 0; k < buffer->interval_count; ++k) {
            const weir_plan_interval* life = &problem->intervals[buffer->interval_begin + k];
            if (life->begin < life->end) {
                layout->clock_begin =
                    life->begin < layout->clock_begin ? life->begin : layout->clock_begin;
                layout->clock_end = life->end > layout->clock_end ? life->end : layout->clock_end;
            }
        }
    }
    if (layout->clock_begin >= layout->clock_end) {
        layout->clock_begin = 0;
        layout->clock_end = 1;
    }
}

weir_status plan_layout_make(const weir_allocator* allocator, const weir_plan_report* report,
                             plan_layout* layout) {
    const weir_plan_problem* problem = report->problem;
    if (problem->precedes) {
        return WEIR_FAIL(WEIR_UNSUPPORTED, "a partial order has no clock to draw along");
    }
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        WEIR_TRY(check_buffer(report, i));
    }
    plan_layout made = {.report = report};
    if (allocator) {
        made.allocator = *allocator;
    }
    WEIR_TRY(weir_alloc(allocator, problem->buffer_count * sizeof *made.boxes, _Alignof(plan_box),
                        (void**)&made.boxes));
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const weir_plan_entry* entry = &report->entries[i];
        if (entry->byte_size > 0 && !(problem->buffers[i].flags & WEIR_PLAN_ALIAS)) {
            made.boxes[made.count++] = (plan_box){.begin = entry->byte_offset,
                                                  .end = entry->byte_offset + entry->byte_size,
                                                  .pool = entry->pool,
                                                  .block = entry->block,
                                                  .buffer = i};
        }
    }
    qsort(made.boxes, made.count, sizeof *made.boxes, plan_box_compare);
    set_clock(&made);
    *layout = made;
    return WEIR_OK;
}

void plan_layout_free(plan_layout* layout) {
    weir_free(&layout->allocator, layout->boxes,
              layout->report->problem->buffer_count * sizeof *layout->boxes, _Alignof(plan_box));
}
