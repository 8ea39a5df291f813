#include "base/bits.h"
#include "plan/plan_internal.h"

// Everything that the planner reads is checked here, once: it then indexes, adds and walks without
// looking. In particular the sum of all sizes stays below 2^63, so that sums of classes, bounds and
// flows cannot overflow; only offsets, which alignment can push up, are checked where they are
// made.

typedef unsigned long long ull; // for messages

// An alias names a root, not another alias, so that folding takes one step and knows no cycles.
static weir_status check_alias(const weir_plan_problem* problem, uint32_t index) {
    const weir_plan_buffer* alias = &problem->buffers[index];
    if (alias->alias_of >= problem->buffer_count ||
        (problem->buffers[alias->alias_of].flags & WEIR_PLAN_ALIAS)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: alias of %u, expected one of the %u buffers that is no alias",
                         index, alias->alias_of, problem->buffer_count);
    }
    const weir_plan_buffer* root = &problem->buffers[alias->alias_of];
    if (alias->alias_offset > root->byte_size ||
        alias->byte_size > root->byte_size - alias->alias_offset) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: alias [%llu, +%llu) passes the %llu bytes of buffer %u", index,
                         (ull)alias->alias_offset, (ull)alias->byte_size, (ull)root->byte_size,
                         alias->alias_of);
    }
    if (alias->flags & WEIR_PLAN_FIXED) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: an alias lies where buffer %u lies and cannot be fixed", index,
                         alias->alias_of);
    }
    if (alias->pool != root->pool) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: alias in pool %u of buffer %u in pool %u", index, alias->pool,
                         alias->alias_of, root->pool);
    }
    if (alias->alignment > 0 && alias->alias_offset % alias->alignment != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: alias offset %llu is no multiple of its alignment %llu", index,
                         (ull)alias->alias_offset, (ull)alias->alignment);
    }
    return WEIR_OK;
}

// Intervals may be empty, overlap, and come in any order; classes sort them.
static weir_status check_intervals(const weir_plan_problem* problem, uint32_t index) {
    const weir_plan_buffer* buffer = &problem->buffers[index];
    if (buffer->interval_count > problem->interval_count ||
        buffer->interval_begin > problem->interval_count - buffer->interval_count ||
        (buffer->interval_count > 0 && !problem->intervals)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: intervals [%u, +%u) pass the %u given",
                         index, buffer->interval_begin, buffer->interval_count,
                         problem->interval_count);
    }
    for (uint32_t i = 0; i < buffer->interval_count; ++i) {
        const weir_plan_interval* live = &problem->intervals[buffer->interval_begin + i];
        if (live->begin > live->end) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "buffer %u: interval %u is [%lld, %lld), which ends before it begins",
                             index, buffer->interval_begin + i, (long long)live->begin,
                             (long long)live->end);
        }
    }
    return WEIR_OK;
}

static weir_status check_buffer(const weir_plan_problem* problem, uint32_t index) {
    const weir_plan_buffer* buffer = &problem->buffers[index];
    const unsigned known = WEIR_PLAN_FIXED | WEIR_PLAN_ALIAS;
    if (buffer->flags & ~known) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u: unknown flags %#x", index,
                         buffer->flags & ~known);
    }
    if (buffer->flags & WEIR_PLAN_ALIAS) {
        WEIR_TRY(check_alias(problem, index));
    }
    // Bad alignment is the caller's mistake, a collision of fixed buffers one of the problem: that
    // is left to placement.
    if (buffer->flags & WEIR_PLAN_FIXED) {
        uint64_t alignment = buffer->alignment ? buffer->alignment : problem->alignment;
        alignment = alignment ? alignment : 1;
        if (buffer->fixed_offset > PLAN_LIMIT ||
            buffer->byte_size > PLAN_LIMIT - buffer->fixed_offset) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "buffer %u: fixed [%llu, +%llu) passes 2^63 - 1",
                             index, (ull)buffer->fixed_offset, (ull)buffer->byte_size);
        }
        if (buffer->fixed_offset % alignment != 0) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "buffer %u: fixed offset %llu is no multiple of its alignment %llu",
                             index, (ull)buffer->fixed_offset, (ull)alignment);
        }
    }
    return problem->precedes ? WEIR_OK : check_intervals(problem, index);
}

// Aliases have no bytes of their own.
static weir_status check_total(const weir_plan_problem* problem) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        const weir_plan_buffer* buffer = &problem->buffers[i];
        if (buffer->flags & WEIR_PLAN_ALIAS) {
            continue;
        }
        if (buffer->byte_size > PLAN_LIMIT - total) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                             "buffer %u: with its %llu bytes the sizes sum to more than 2^63 - 1",
                             i, (ull)buffer->byte_size);
        }
        total += buffer->byte_size;
    }
    return WEIR_OK;
}

// Transitive and irreflexive, hence also one way only; bits past the last buffer are ignored. The
// bound needs it: in a relation that is not transitive the heaviest set without order may be
// lighter than what the flow gives.
static weir_status check_row(const weir_plan_problem* problem, uint32_t index, uint64_t* rest) {
    const uint32_t count = problem->buffer_count;
    const size_t words = bits_words(count);
    const uint64_t* row = problem->precedes + index * words;
    const uint64_t last_mask = UINT64_MAX >> (63 - (count - 1) % 64);
    for (size_t w = 0; w < words; ++w) {
        rest[w] = row[w];
    }
    rest[words - 1] &= last_mask;
    for (size_t w = 0; w < words; ++w) {
        while (rest[w]) {
            const uint32_t next = (uint32_t)w * 64 + bits_lowest(rest[w]);
            const uint64_t* after = problem->precedes + next * words;
            // What `next` precedes need not be looked at again: its own row answers for that.
            uint64_t missing = after[words - 1] & ~row[words - 1] & last_mask;
            for (size_t v = 0; v + 1 < words; ++v) {
                missing |= after[v] & ~row[v];
            }
            if (missing) {
                return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                                 "buffer %u precedes %u, but not all that %u precedes: the order "
                                 "is not transitive",
                                 index, next, next);
            }
            for (size_t v = w; v < words; ++v) {
                rest[v] &= ~after[v];
            }
            bits_clear(rest, next);
        }
    }
    return WEIR_OK;
}

static weir_status check_order(plan_scratch* scratch, const weir_plan_problem* problem) {
    uint64_t* rest = NULL;
    WEIR_TRY(scratch_take(scratch, &rest, bits_words(problem->buffer_count)));
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        if (bits_has(problem->precedes + i * bits_words(problem->buffer_count), i)) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "buffer %u precedes itself", i);
        }
        WEIR_TRY(check_row(problem, i, rest));
    }
    return WEIR_OK;
}

static weir_status check_penalties(const weir_plan_problem* problem) {
    if (problem->penalty_count > 0 && !problem->penalties) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u penalties at NULL", problem->penalty_count);
    }
    for (uint32_t i = 0; i < problem->penalty_count; ++i) {
        const weir_plan_penalty* pair = &problem->penalties[i];
        if (pair->a >= problem->buffer_count || pair->b >= problem->buffer_count ||
            pair->a == pair->b) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "penalty %u: buffers %u and %u, expected two of the %u buffers", i,
                             pair->a, pair->b, problem->buffer_count);
        }
    }
    return WEIR_OK;
}

weir_status plan_check(plan_scratch* scratch, const weir_plan_problem* problem) {
    if (problem->buffer_count == WEIR_PLAN_NONE ||
        (problem->buffer_count > 0 && !problem->buffers)) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u buffers at %p", problem->buffer_count,
                         (const void*)problem->buffers);
    }
    if ((unsigned)problem->effort > WEIR_PLAN_PROVE) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "effort %d, expected to search, place or prove",
                         (int)problem->effort);
    }
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        WEIR_TRY(check_buffer(problem, i));
    }
    if (problem->in_place_count > 0 && !problem->in_place) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u in-place pairs at NULL",
                         problem->in_place_count);
    }
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        const weir_plan_in_place* pair = &problem->in_place[i];
        if (pair->buffer >= problem->buffer_count || pair->on >= problem->buffer_count ||
            pair->buffer == pair->on) {
            return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                             "in-place pair %u: buffer %u on %u, expected two of the %u buffers", i,
                             pair->buffer, pair->on, problem->buffer_count);
        }
    }
    WEIR_TRY(check_penalties(problem));
    WEIR_TRY(check_total(problem));
    return problem->precedes ? check_order(scratch, problem) : WEIR_OK;
}
