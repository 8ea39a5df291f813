#include <weir/range.h>

#include <stdio.h>
#include <string.h>

#include "hazard/pattern.h"

// Ranges are plain values that callers may also fill by hand, so nothing here trusts that they are
// normal, or that they end below 2^64: what they name is computed in 128 bits.

weir_range weir_range_make(uint64_t memory_id, uint64_t byte_offset, uint64_t byte_length) {
    return (weir_range){
        .memory_id = memory_id, .byte_offset = byte_offset, .byte_length = byte_length};
}

// Computes one past the last byte; false when that passes 2^64 - 1. Empty patterns end where they
// begin.
static bool find_end(uint64_t byte_offset, uint64_t run_bytes, const weir_range_level* levels,
                     uint32_t level_count, uint64_t* end) {
    wide sum = (wide)byte_offset + run_bytes;
    bool empty = run_bytes == 0;
    for (uint32_t k = 0; k < level_count; ++k) {
        if (levels[k].count == 0) {
            empty = true;
        } else if (sum <= UINT64_MAX) {
            // Below 2^64 one more product of 64-bit numbers fits 128 bits.
            sum += (wide)(levels[k].count - 1) * levels[k].stride;
        }
    }
    *end = empty ? byte_offset : (uint64_t)sum;
    return empty || sum <= UINT64_MAX;
}

static void write_range(const pattern* set, weir_range* range) {
    range->byte_length = (uint64_t)set->run;
    range->level_count = set->level_count;
    for (uint32_t k = 0; k < set->level_count; ++k) {
        range->levels[k] = (weir_range_level){.count = (uint64_t)set->levels[k].count,
                                              .stride = (uint64_t)set->levels[k].stride};
    }
}

weir_status weir_range_pattern(uint64_t memory_id, uint64_t byte_offset, uint64_t run_bytes,
                               const weir_range_level* levels, uint32_t level_count,
                               weir_range* range, bool* widened) {
    uint64_t end = 0;
    if (!find_end(byte_offset, run_bytes, levels, level_count, &end)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "pattern of %llu-byte runs at offset %llu of memory %llu passes 2^64 - 1",
                         (unsigned long long)run_bytes, (unsigned long long)byte_offset,
                         (unsigned long long)memory_id);
    }
    weir_range made = weir_range_make(memory_id, byte_offset, 0);
    bool wider = false;
    if (end > byte_offset) {
        pattern set = {.run = run_bytes};
        for (uint32_t k = 0; k < level_count; ++k) {
            wider |= pattern_add(&set, levels[k].count, levels[k].stride);
        }
        wider |= pattern_widen(&set, WEIR_RANGE_LEVELS);
        write_range(&set, &made);
    }
    *range = made;
    if (widened) {
        *widened = wider;
    }
    return WEIR_OK;
}

// The levels of a view, its last dimension counted in blocks; false for a view that no operation
// of weir/view.h makes: a negative dim or stride, or too many dims.
static bool list_levels(const weir_view* view, uint32_t block_elements,
                        weir_range_level levels[WEIR_RANK_MAX]) {
    const weir_shape* shape = &view->shape;
    if (shape->rank > WEIR_RANK_MAX) {
        return false;
    }
    for (uint32_t axis = 0; axis < shape->rank; ++axis) {
        if (shape->dims[axis] < 0 || view->strides[axis] < 0) {
            return false;
        }
        uint64_t count = (uint64_t)shape->dims[axis];
        // Rows that are no whole blocks cannot be addressed; rounding up is the safe side.
        if (axis + 1 == shape->rank) {
            count = count / block_elements + (count % block_elements != 0);
        }
        levels[axis] = (weir_range_level){count, (uint64_t)view->strides[axis]};
    }
    return true;
}

// Finds the one run of a view without gaps and with nothing unusual about it, as most are; false
// leaves it to the general way.
static bool find_run(const weir_view* view, const weir_dtype_info* info, uint64_t memory_offset,
                     weir_range* range) {
    uint64_t length = info->block_bytes;
    bool dense = view->shape.rank <= WEIR_RANK_MAX;
    for (uint32_t i = dense ? view->shape.rank : 0; dense && i-- > 0;) {
        const int64_t dim = view->shape.dims[i];
        const bool blocks = i + 1 == view->shape.rank && info->block_elements > 1;
        const int64_t count = blocks ? dim / info->block_elements : dim;
        dense = dim > 0 && (!blocks || dim % info->block_elements == 0) && view->strides[i] >= 0 &&
                (count == 1 || (uint64_t)view->strides[i] == length) &&
                !__builtin_mul_overflow(length, (uint64_t)count, &length);
    }
    uint64_t end = 0;
    range->byte_length = length;
    return dense &&
           !__builtin_add_overflow(memory_offset, view->byte_offset, &range->byte_offset) &&
           !__builtin_add_overflow(range->byte_offset, length, &end);
}

// The general way. Not a view that weir makes: claims the whole memory rather than too little.
static bool find_pattern(const weir_view* view, const weir_dtype_info* info, uint64_t memory_offset,
                         weir_range* range) {
    weir_range_level levels[WEIR_RANK_MAX];
    uint64_t offset = 0;
    uint64_t end = 0;
    bool wider = false;
    if (__builtin_add_overflow(memory_offset, view->byte_offset, &offset) ||
        !list_levels(view, info->block_elements, levels) ||
        !find_end(offset, info->block_bytes, levels, view->shape.rank, &end) ||
        weir_range_pattern(range->memory_id, offset, info->block_bytes, levels, view->shape.rank,
                           range, &wider) != WEIR_OK) {
        *range = weir_range_make(range->memory_id, 0, UINT64_MAX);
        wider = true;
    }
    return wider;
}

weir_range weir_range_from_view(const weir_view* view, uint64_t memory_id, uint64_t memory_offset,
                                bool* widened) {
    const weir_dtype_info* info = weir_dtype_describe(view->dtype);
    weir_range range = weir_range_make(memory_id, memory_offset, 0);
    bool wider = false;
    if (info->block_elements > 0 && !find_run(view, info, memory_offset, &range)) {
        wider = find_pattern(view, info, memory_offset, &range);
    }
    if (widened) {
        *widened = wider;
    }
    return range;
}

// The end, and whether the fields say so exactly. Ranges filled in by hand may pass 2^64 - 1 or
// claim too many levels; they count as everything from their offset on.
static bool range_end(const weir_range* range, uint64_t* end) {
    if (range->level_count <= WEIR_RANGE_LEVELS &&
        find_end(range->byte_offset, range->byte_length, range->levels, range->level_count, end)) {
        return true;
    }
    *end = UINT64_MAX;
    return false;
}

uint64_t weir_range_end(const weir_range* range) {
    uint64_t end = 0;
    range_end(range, &end);
    return end;
}

static void add_levels(pattern* set, const weir_range* range) {
    for (uint32_t k = 0; k < range->level_count; ++k) {
        pattern_add(set, range->levels[k].count, range->levels[k].stride);
    }
}

// A run of `a` at p and a run of `b` at q share a byte when 0 <= p + la - 1 - q < la + lb - 1.
// Counting the repetitions of `a` from its end turns p + la - 1 into end(a) - 1 minus the steps of
// `a`, so the question is whether end(a) - 1 - offset(b) lies in the pattern of both sets of
// levels.
static bool patterns_meet(const weir_range* a, uint64_t a_end, const weir_range* b) {
    pattern both = {.run = (wide)a->byte_length + b->byte_length - 1};
    add_levels(&both, a);
    add_levels(&both, b);
    return pattern_has(&both, a_end - 1 - b->byte_offset);
}

bool weir_range_overlaps(const weir_range* a, const weir_range* b) {
    if (a->memory_id != b->memory_id) {
        return false;
    }
    uint64_t a_end = 0;
    uint64_t b_end = 0;
    const bool a_exact = range_end(a, &a_end);
    const bool b_exact = range_end(b, &b_end);
    if (a->byte_offset >= b_end || b->byte_offset >= a_end || a_end == a->byte_offset ||
        b_end == b->byte_offset) {
        return false;
    }
    // Two contiguous ranges are their intervals, which meet.
    if (!a_exact || !b_exact || (a->level_count == 0 && b->level_count == 0)) {
        return true;
    }
    // Always from the same side, so that both directions of the question get the same answer.
    return a->byte_offset <= b->byte_offset ? patterns_meet(a, a_end, b)
                                            : patterns_meet(b, b_end, a);
}

// Equal fields are equal bytes; the reverse holds for normal patterns only, and is not needed.
static bool same_pattern(const weir_range* a, const weir_range* b) {
    return a->byte_offset == b->byte_offset && a->byte_length == b->byte_length &&
           a->level_count == b->level_count && a->level_count <= WEIR_RANGE_LEVELS &&
           memcmp(a->levels, b->levels, a->level_count * sizeof a->levels[0]) == 0;
}

bool weir_range_contains(const weir_range* outer, const weir_range* inner) {
    uint64_t outer_end = 0;
    uint64_t inner_end = 0;
    const bool exact = range_end(outer, &outer_end);
    range_end(inner, &inner_end);
    if (inner_end == inner->byte_offset) {
        return true;
    }
    if (outer->memory_id != inner->memory_id) {
        return false;
    }
    if (exact && outer->level_count == 0) {
        return outer->byte_offset <= inner->byte_offset && inner_end <= outer_end;
    }
    return same_pattern(outer, inner);
}

char* weir_range_format(const weir_range* range, char* text, size_t capacity) {
    const uint32_t level_count =
        range->level_count < WEIR_RANGE_LEVELS ? range->level_count : WEIR_RANGE_LEVELS;
    char whole[320]; // at most 12 numbers of 20 digits and 36 other characters

    const bool is_address = range->byte_offset > UINT32_MAX;
    const unsigned long long end = weir_range_end(range);
    size_t length = (size_t)snprintf(
        whole, sizeof whole, is_address ? "m%llu [0x%llx, +%llu)" : "m%llu [%llu, %llu)",
        (unsigned long long)range->memory_id, (unsigned long long)range->byte_offset,
        is_address ? end - range->byte_offset : end);
    for (uint32_t k = 0; k < level_count; ++k) {
        length += (size_t)snprintf(whole + length, sizeof whole - length, " %llu x",
                                   (unsigned long long)range->levels[k].count);
    }
    if (level_count > 0) {
        length += (size_t)snprintf(whole + length, sizeof whole - length, " %llu",
                                   (unsigned long long)range->byte_length);
    }
    for (uint32_t k = 0; k < level_count; ++k) {
        length += (size_t)snprintf(whole + length, sizeof whole - length, " +%llu",
                                   (unsigned long long)range->levels[k].stride);
    }
    snprintf(text, capacity, "%s", whole);
    return text;
}
