#include "plan/plan_verify.h"

#include <stdlib.h>

#include "base/checked.h"

// The proof shares no code with the planner, and asks of pairs of buffers what the planner asks of
// classes: no two that conflict may share a byte. Buffers of one root are one memory. A pair in
// place is excused, at one offset, and only one buffer may take another's bytes. Entries of
// different pools or blocks never share a byte.

typedef unsigned long long ull; // for messages

// Written anew and not shared with the planner, like all that follows: an error in one of the two
// then shows as a disagreement.
static uint64_t alignment_of(const weir_plan_problem* problem, const weir_plan_buffer* buffer) {
    if (buffer->alignment == 0 && !(buffer->flags & WEIR_PLAN_ALIAS) && problem->alignment > 0) {
        return problem->alignment;
    }
    return buffer->alignment > 0 ? buffer->alignment : 1;
}

// Only what keeps the proof itself inside its arrays; the planner refuses more.
static weir_status check_problem(const weir_plan_problem* problem, const weir_plan_entry* entries) {
    if (problem->buffer_count > 0 && (!problem->buffers || !entries)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u buffers, but no array of %s",
                         problem->buffer_count, problem->buffers ? "entries" : "buffers");
    }
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const weir_plan_buffer* buffer = &problem->buffers[i];
        const uint64_t end = (uint64_t)buffer->interval_begin + buffer->interval_count;
        if (!problem->precedes && buffer->interval_count > 0 &&
            (!problem->intervals || end > problem->interval_count)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: intervals up to %llu of %u", i,
                             (ull)end, problem->interval_count);
        }
        if ((buffer->flags & WEIR_PLAN_ALIAS) && buffer->alias_of >= problem->buffer_count) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: alias of %u of %u buffers", i,
                             buffer->alias_of, problem->buffer_count);
        }
    }
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        if (!problem->in_place || problem->in_place[i].buffer >= problem->buffer_count ||
            problem->in_place[i].on >= problem->buffer_count) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "in-place pair %u names no buffer of the %u", i,
                             problem->buffer_count);
        }
    }
    return WEIR_OK;
}

// Pairs are looked up by halving.
static int compare_pairs(const void* a, const void* b) {
    const weir_plan_in_place* x = a;
    const weir_plan_in_place* y = b;
    if (x->buffer != y->buffer) {
        return x->buffer < y->buffer ? -1 : 1;
    }
    return x->on < y->on ? -1 : x->on > y->on;
}

static bool is_one_place(const weir_plan_entry* a, const weir_plan_entry* b) {
    return a->pool == b->pool && a->block == b->block && a->byte_offset == b->byte_offset;
}

// Whether the problem lists the pair, and both lie at one offset.
static bool may_share(const verifier* check, uint32_t buffer, uint32_t on) {
    const uint32_t count = check->problem->in_place_count;
    const weir_plan_in_place wanted = {.buffer = buffer, .on = on};
    return count > 0 && is_one_place(&check->entries[buffer], &check->entries[on]) &&
           bsearch(&wanted, check->pairs, count, sizeof wanted, compare_pairs);
}

// An alias lies where its root puts it, in the same pool and block.
static weir_status check_alias_entry(const verifier* check, uint32_t index) {
    const weir_plan_buffer* buffer = &check->problem->buffers[index];
    const weir_plan_entry* entry = &check->entries[index];
    const weir_plan_entry* root = &check->entries[buffer->alias_of];
    if (entry->pool != root->pool || entry->block != root->block ||
        entry->byte_offset < root->byte_offset ||
        entry->byte_offset - root->byte_offset != buffer->alias_offset) {
        return WEIR_FAIL(
            WEIR_INFEASIBLE,
            "buffer %u at %llu in block %u of pool %u is no alias at +%llu of buffer %u at %llu in "
            "block %u of pool %u",
            index, (ull)entry->byte_offset, entry->block, entry->pool, (ull)buffer->alias_offset,
            buffer->alias_of, (ull)root->byte_offset, root->block, root->pool);
    }
    return WEIR_OK;
}

// What one entry must satisfy by itself.
static weir_status check_entry(const verifier* check, uint32_t index) {
    const weir_plan_buffer* buffer = &check->problem->buffers[index];
    const weir_plan_entry* entry = &check->entries[index];
    if (entry->byte_size != buffer->byte_size || entry->pool != buffer->pool) {
        return WEIR_FAIL(WEIR_INFEASIBLE,
                         "buffer %u has %llu bytes in pool %u, expected %llu in pool %u", index,
                         (ull)entry->byte_size, entry->pool, (ull)buffer->byte_size, buffer->pool);
    }
    if (entry->byte_offset > INT64_MAX || entry->byte_size > INT64_MAX - entry->byte_offset) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "buffer %u: [%llu, +%llu) passes 2^63 - 1", index,
                         (ull)entry->byte_offset, (ull)entry->byte_size);
    }
    if (entry->byte_offset % alignment_of(check->problem, buffer) != 0) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "buffer %u: offset %llu is no multiple of %llu", index,
                         (ull)entry->byte_offset, (ull)alignment_of(check->problem, buffer));
    }
    if ((buffer->flags & WEIR_PLAN_FIXED) && entry->byte_offset != buffer->fixed_offset) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "buffer %u: offset %llu, fixed at %llu", index,
                         (ull)entry->byte_offset, (ull)buffer->fixed_offset);
    }
    if (entry->block > 0 && check->problem->block_bytes_max == 0) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "buffer %u lies in block %u, expected one block", index,
                         entry->block);
    }
    if (entry->placed_on != WEIR_PLAN_NONE && (entry->placed_on >= check->problem->buffer_count ||
                                               !may_share(check, index, entry->placed_on))) {
        return WEIR_FAIL(WEIR_INFEASIBLE,
                         "buffer %u says it lies on %u, which no in-place pair allows there", index,
                         entry->placed_on);
    }
    return buffer->flags & WEIR_PLAN_ALIAS ? check_alias_entry(check, index) : WEIR_OK;
}

// Row `before` has a bit for each buffer that lives wholly after it (weir_plan_problem.precedes).
static bool is_ordered(const weir_plan_problem* problem, uint32_t before, uint32_t after) {
    const size_t words = ((size_t)problem->buffer_count + 63) / 64;
    return problem->precedes[before * words + after / 64] >> (after % 64) & 1;
}

// A buffer without an alias flag is its own root; aliases of one root may share bytes.
static uint32_t root_of(const weir_plan_problem* problem, uint32_t index) {
    const weir_plan_buffer* buffer = &problem->buffers[index];
    return buffer->flags & WEIR_PLAN_ALIAS ? buffer->alias_of : index;
}

weir_status plan_verify_pair(verifier* check, const verify_region* a, const verify_region* b) {
    if (a->root == b->root) {
        return WEIR_OK;
    }
    const bool b_on_a = may_share(check, b->buffer, a->buffer);
    const bool a_on_b = may_share(check, a->buffer, b->buffer) &&
                        !(b_on_a && check->entries[b->buffer].placed_on == a->buffer);
    if (!a_on_b && !b_on_a) {
        return WEIR_FAIL(
            WEIR_INFEASIBLE,
            "buffers %u at [%llu, %llu) and %u at [%llu, %llu) of block %u of pool %u conflict and "
            "share bytes",
            a->buffer, (ull)a->begin, (ull)a->end, b->buffer, (ull)b->begin, (ull)b->end, a->block,
            a->pool);
    }
    // Two that take the same bytes would overwrite each other, even at different times: each may
    // count on what the last reader of those bytes has left.
    const uint32_t on = a_on_b ? b->buffer : a->buffer;
    const uint32_t upper = a_on_b ? a->buffer : b->buffer;
    if (check->taken_by[on] != WEIR_PLAN_NONE && check->taken_by[on] != upper) {
        return WEIR_FAIL(WEIR_INFEASIBLE,
                         "buffers %u and %u both take the bytes [%llu, %llu) of buffer %u in place",
                         check->taken_by[on], upper, (ull)check->entries[on].byte_offset,
                         (ull)(check->entries[on].byte_offset + check->entries[on].byte_size), on);
    }
    check->taken_by[on] = upper;
    return WEIR_OK;
}

// Within a block by begin: whoever compares a region with those behind it can stop at the first
// that begins past its end.
static int compare_regions(const void* a, const void* b) {
    const verify_region* x = a;
    const verify_region* y = b;
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    if (x->block != y->block) {
        return x->block < y->block ? -1 : 1;
    }
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

// Partial order mode: each region against those that begin inside it. The order has a bit for every
// pair, so it is not the pairs that cost.
static weir_status check_ordered(verifier* check, uint32_t first, uint32_t count) {
    for (uint32_t i = first; i < first + count; ++i) {
        const verify_region* a = &check->regions[i];
        for (uint32_t j = i + 1; j < first + count; ++j) {
            const verify_region* b = &check->regions[j];
            if (b->begin >= a->end) {
                break;
            }
            if (!is_ordered(check->problem, a->buffer, b->buffer) &&
                !is_ordered(check->problem, b->buffer, a->buffer)) {
                WEIR_TRY(plan_verify_pair(check, a, b));
            }
        }
    }
    return WEIR_OK;
}

// Judges one block, regions [first, first + count), and adds what it needs to the peak.
static weir_status check_block(verifier* check, uint32_t first, uint32_t count, uint64_t* peak) {
    const weir_plan_problem* problem = check->problem;
    const verify_region* regions = check->regions + first;
    uint64_t size = 0; // the highest end, which need not be that of the last region
    for (uint32_t i = 0; i < count; ++i) {
        size = regions[i].end > size ? regions[i].end : size;
    }
    if (problem->block_bytes_max > 0 && size > problem->block_bytes_max) {
        return WEIR_FAIL(WEIR_INFEASIBLE,
                         "block %u of pool %u needs %llu bytes, expected at most %llu",
                         regions->block, regions->pool, (ull)size, (ull)problem->block_bytes_max);
    }
    if (!add_u64(*peak, size, peak)) {
        *peak = UINT64_MAX; // still above any capacity
    }
    return problem->precedes ? check_ordered(check, first, count)
                             : plan_verify_sweep(check, first, count);
}

// Regions of one block lie together once sorted, and blocks are judged one by one.
static weir_status check_blocks(verifier* check) {
    qsort(check->regions, check->region_count, sizeof *check->regions, compare_regions);
    uint64_t peak = 0;
    uint32_t first = 0;
    while (first < check->region_count) {
        const verify_region* begin = &check->regions[first];
        uint32_t count = 1;
        while (first + count < check->region_count && begin[count].pool == begin->pool &&
               begin[count].block == begin->block) {
            ++count;
        }
        WEIR_TRY(check_block(check, first, count, &peak));
        first += count;
    }
    if (check->problem->capacity > 0 && peak > check->problem->capacity) {
        return WEIR_FAIL(WEIR_INFEASIBLE, "the plan needs %llu bytes, expected at most %llu",
                         (ull)peak, (ull)check->problem->capacity);
    }
    return WEIR_OK;
}

static weir_status verify(verifier* check) {
    const weir_plan_problem* problem = check->problem;
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        check->pairs[i] = problem->in_place[i];
    }
    qsort(check->pairs, problem->in_place_count, sizeof *check->pairs, compare_pairs);
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        check->taken_by[i] = WEIR_PLAN_NONE;
        WEIR_TRY(check_entry(check, i));
        const weir_plan_entry* entry = &check->entries[i];
        if (entry->byte_size > 0) {
            check->regions[check->region_count++] =
                (verify_region){.begin = entry->byte_offset,
                                .end = entry->byte_offset + entry->byte_size,
                                .pool = entry->pool,
                                .block = entry->block,
                                .buffer = i,
                                .root = root_of(problem, i)};
        }
    }
    return check_blocks(check);
}

weir_status weir_plan_verify(const weir_allocator* allocator, const weir_plan_problem* problem,
                             const weir_plan_entry* entries) {
    WEIR_TRY(check_problem(problem, entries));
    const size_t count = problem->buffer_count;
    const size_t pairs = problem->in_place_count;
    verifier check = {.allocator = allocator, .problem = problem, .entries = entries};
    weir_status status = weir_alloc(allocator, count * sizeof *check.regions,
                                    _Alignof(verify_region), (void**)&check.regions);
    if (status == WEIR_OK) {
        status = weir_alloc(allocator, count * sizeof *check.taken_by, _Alignof(uint32_t),
                            (void**)&check.taken_by);
    }
    if (status == WEIR_OK) {
        status = weir_alloc(allocator, pairs * sizeof *check.pairs, _Alignof(weir_plan_in_place),
                            (void**)&check.pairs);
    }
    if (status == WEIR_OK) {
        status = verify(&check);
    }
    weir_free(allocator, check.pairs, pairs * sizeof *check.pairs, _Alignof(weir_plan_in_place));
    weir_free(allocator, check.taken_by, count * sizeof *check.taken_by, _Alignof(uint32_t));
    weir_free(allocator, check.regions, count * sizeof *check.regions, _Alignof(verify_region));
    return status;
}
