#include "plan/plan_adopt.h"

#include <string.h>

#include "base/array.h"
#include "base/checked.h"
#include "plan/plan_internal.h"

weir_status plan_make(const weir_allocator* allocator, const weir_plan_entry* entries,
                      uint32_t count, const weir_plan_result* result, weir_plan** plan) {
    weir_plan* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    const weir_status status = weir_alloc(allocator, count * sizeof *made->entries,
                                          _Alignof(weir_plan_entry), (void**)&made->entries);
    if (status != WEIR_OK) {
        object_free(allocator, made);
        return status;
    }
    if (count > 0) {
        memcpy(made->entries, entries, count * sizeof *made->entries);
    }
    made->allocator = allocator ? *allocator : (weir_allocator){0};
    made->count = count;
    made->result = *result;
    *plan = made;
    return WEIR_OK;
}

// The end of an entry on the line of its pool, where block follows block; 0 without bytes.
static weir_status end_of(const weir_plan_problem* problem, const weir_plan_entry* entry,
                          uint64_t* end) {
    uint64_t begin = 0;
    *end = 0;
    if (entry->byte_size == 0) {
        return WEIR_OK;
    }
    if (!mul_u64(entry->block, problem->block_bytes_max, &begin) ||
        !add_u64(begin, entry->byte_offset, &begin) || !add_u64(begin, entry->byte_size, end) ||
        *end > PLAN_LIMIT) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "block %u at %llu passes 2^63 - 1 bytes", entry->block,
                         (unsigned long long)entry->byte_offset);
    }
    return WEIR_OK;
}

// Adds the pool of buffer `index` when it is the first of its pool.
static weir_status add_pool(const weir_plan_problem* problem, const weir_plan_entry* entries,
                            uint32_t index, weir_plan_result* result) {
    uint64_t peak = 0;
    uint32_t blocks = 0;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        if (entries[i].pool != entries[index].pool) {
            continue;
        }
        if (i < index) {
            return WEIR_OK;
        }
        uint64_t end = 0;
        WEIR_TRY(end_of(problem, &entries[i], &end));
        peak = end > peak ? end : peak;
        blocks = end > 0 && entries[i].block >= blocks ? entries[i].block + 1 : blocks;
    }
    if (peak > PLAN_LIMIT - result->peak) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "the peaks of all pools sum to more than 2^63 - 1");
    }
    result->peak += peak;
    result->blocks += blocks;
    return WEIR_OK;
}

static weir_status measure(const weir_plan_problem* problem, const weir_plan_entry* entries,
                           weir_plan_result* result) {
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        WEIR_TRY(add_pool(problem, entries, i, result));
        result->in_place += entries[i].placed_on != WEIR_PLAN_NONE;
        const bool alias = (problem->buffers[i].flags & WEIR_PLAN_ALIAS) != 0;
        result->total += alias ? 0 : problem->buffers[i].byte_size;
    }
    result->penalty = weir_plan_penalty_of(problem, entries);
    return WEIR_OK;
}

weir_status weir_plan_adopt(const weir_allocator* allocator, const weir_plan_problem* problem,
                            const weir_plan_entry* entries, const plan_claims* claims,
                            weir_plan** plan) {
    weir_plan_result result = {.lower_bound = claims->lower_bound,
                               .block_bound = claims->block_bound};
    WEIR_TRY(weir_plan_verify(allocator, problem, entries));
    WEIR_TRY(measure(problem, entries, &result));
    if (claims->lower_bound > result.peak || claims->block_bound > result.blocks) {
        return WEIR_FAIL(WEIR_INFEASIBLE,
                         "a plan of %llu bytes in %u blocks is said to need %llu and %u",
                         (unsigned long long)result.peak, result.blocks,
                         (unsigned long long)claims->lower_bound, claims->block_bound);
    }
    result.optimal = result.peak == result.lower_bound;
    return plan_make(allocator, entries, problem->buffer_count, &result, plan);
}

void weir_plan_destroy(weir_plan* plan) {
    if (!plan) {
        return;
    }
    const weir_allocator allocator = plan->allocator;
    weir_free(&allocator, plan->entries, plan->count * sizeof *plan->entries,
              _Alignof(weir_plan_entry));
    object_free(&allocator, plan);
}

const weir_plan_result* weir_plan_result_of(const weir_plan* plan) {
    return &plan->result;
}

const weir_plan_entry* weir_plan_entries(const weir_plan* plan, uint32_t* count) {
    if (count) {
        *count = plan->count;
    }
    return plan->entries;
}
