#include "plan/plan_intervals.h"

// A buffer lives from its first use to its last: the order makes an interval problem, of which the
// largest live sum is found by differences, without sorting, and placements without a search.

// An order search calls this thousands of times, with orders that it made itself; but a position
// out of range would write past the differences, so all are looked at once, which costs less than
// they do.
static weir_status check_order(const weir_plan_problem* problem, const weir_plan_order* order) {
    if (!order->positions && order->dispatch_count > 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u dispatches, but no positions",
                         order->dispatch_count);
    }
    for (uint32_t d = 0; d < order->dispatch_count; ++d) {
        if (order->positions[d] >= order->dispatch_count) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "dispatch %u: position %u, expected one below %u", d,
                             order->positions[d], order->dispatch_count);
        }
    }
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        if (order->use_begins[i] > order->use_begins[i + 1]) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: uses from %u to %u", i,
                             order->use_begins[i], order->use_begins[i + 1]);
        }
        for (uint32_t u = order->use_begins[i]; u < order->use_begins[i + 1]; ++u) {
            if (order->uses[u] >= order->dispatch_count) {
                return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                                 "buffer %u: used by dispatch %u, expected one below %u", i,
                                 order->uses[u], order->dispatch_count);
            }
        }
    }
    return WEIR_OK;
}

// Buffers that no dispatch uses never live.
static void fill_lives(const weir_plan_problem* problem, const weir_plan_order* order,
                       weir_plan_buffer* buffers, weir_plan_interval* lives) {
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        weir_plan_interval* live = &lives[i];
        *live = (weir_plan_interval){order->dispatch_count, 0};
        for (uint32_t u = order->use_begins[i]; u < order->use_begins[i + 1]; ++u) {
            const int64_t at = order->positions[order->uses[u]];
            live->begin = at < live->begin ? at : live->begin;
            live->end = at >= live->end ? at + 1 : live->end;
        }
        live->end = live->end < live->begin ? live->begin : live->end;
        buffers[i] = problem->buffers[i];
        buffers[i].interval_begin = i;
        buffers[i].interval_count = 1;
    }
}

// The largest live sum of classes [first, end), by the differences at each position.
static uint64_t largest_sum(const plan_instance* instance, uint32_t first, uint32_t end,
                            uint64_t* differences, uint32_t positions) {
    for (uint32_t p = 0; p <= positions; ++p) {
        differences[p] = 0;
    }
    uint64_t largest = 0;
    for (uint32_t c = first; c < end; ++c) {
        const plan_class* block = &instance->classes[c];
        for (uint32_t s = 0; s < block->span_count; ++s) {
            const weir_plan_interval* span = &instance->spans[block->first_span + s];
            differences[span->begin] += block->byte_size;
            differences[span->end] -= block->byte_size;
        }
        const uint64_t top = block->fixed ? block->fixed_offset + block->byte_size : 0;
        largest = top > largest ? top : largest;
    }
    uint64_t live = 0;
    for (uint32_t p = 0; p < positions; ++p) {
        live += differences[p];
        largest = live > largest ? live : largest;
    }
    return largest;
}

static weir_status score_pools(plan_scratch* scratch, const plan_instance* instance,
                               uint32_t positions, uint64_t* lower_bound, uint64_t* peak) {
    uint64_t* differences = NULL;
    uint64_t* offsets = NULL;
    uint64_t bounds = 0;
    uint64_t peaks = 0;
    WEIR_TRY(scratch_take(scratch, &differences, (size_t)positions + 1));
    WEIR_TRY(scratch_take(scratch, &offsets, instance->class_count));
    for (uint32_t first = 0; first < instance->class_count;) {
        uint32_t end = first + 1;
        while (end < instance->class_count &&
               instance->classes[end].pool == instance->classes[first].pool) {
            ++end;
        }
        // Of classes as they are, without padding: an order that is better in real bytes must not
        // lose by the rounding of a placement.
        uint64_t bound = largest_sum(instance, first, end, differences, positions);
        uint64_t height = 0;
        if (peak) {
            plan_budget budget = {0};
            uint64_t aligned = 0;
            WEIR_TRY(plan_intervals_pool(scratch, instance, first, end - first, 0, &budget, offsets,
                                         &height, &aligned));
            bound = aligned > bound ? aligned : bound;
        }
        if (bound > PLAN_LIMIT - bounds || height > PLAN_LIMIT - peaks) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the peaks of all pools sum to more than 2^63 - 1");
        }
        bounds += bound;
        peaks += height;
        first = end;
    }
    *lower_bound = bounds;
    if (peak) {
        *peak = peaks;
    }
    return WEIR_OK;
}

static weir_status score(plan_scratch* scratch, const weir_plan_problem* problem,
                         const weir_plan_order* order, uint64_t* lower_bound, uint64_t* peak) {
    weir_plan_buffer* buffers = NULL;
    weir_plan_interval* lives = NULL;
    WEIR_TRY(scratch_take(scratch, &buffers, problem->buffer_count));
    WEIR_TRY(scratch_take(scratch, &lives, problem->buffer_count));
    WEIR_TRY(check_order(problem, order));
    fill_lives(problem, order, buffers, lives);
    const weir_plan_problem ordered = {.buffers = buffers,
                                       .buffer_count = problem->buffer_count,
                                       .intervals = lives,
                                       .interval_count = problem->buffer_count,
                                       .alignment = problem->alignment};
    plan_forest forest;
    plan_instance instance;
    WEIR_TRY(plan_check(scratch, &ordered));
    WEIR_TRY(plan_forest_make(scratch, &ordered, &forest));
    WEIR_TRY(plan_instance_make(scratch, &ordered, &forest, &instance));
    return score_pools(scratch, &instance, order->dispatch_count, lower_bound, peak);
}

weir_status weir_plan_score(const weir_allocator* allocator, const weir_plan_problem* problem,
                            const weir_plan_order* order, uint64_t* lower_bound, uint64_t* peak) {
    if (problem->buffer_count == WEIR_PLAN_NONE ||
        (problem->buffer_count > 0 && (!problem->buffers || !order->use_begins || !order->uses))) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u buffers, but an array is NULL",
                         problem->buffer_count);
    }
    plan_scratch scratch = {0};
    if (allocator) {
        scratch.allocator = *allocator;
    }
    const weir_status status = score(&scratch, problem, order, lower_bound, peak);
    plan_scratch_release(&scratch, NULL);
    return status;
}
