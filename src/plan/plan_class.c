#include <stdlib.h>

#include "plan/plan_internal.h"

// From buffers to classes. A class is rigid: its members keep their distance, so it is placed like
// one buffer of the size of its root. It conflicts with whatever any member conflicts with, which
// is exact for aliases of a whole root and safe otherwise.

// Aliases lie where their root puts them; only an alignment of their own asks for more.
uint64_t plan_own_alignment(const weir_plan_problem* problem, uint32_t index) {
    const weir_plan_buffer* buffer = &problem->buffers[index];
    if (buffer->alignment > 0 || (buffer->flags & WEIR_PLAN_ALIAS)) {
        return buffer->alignment > 0 ? buffer->alignment : 1;
    }
    return problem->alignment > 0 ? problem->alignment : 1;
}

bool plan_common_multiple(uint64_t a, uint64_t b, uint64_t* multiple) {
    uint64_t divisor = a;
    for (uint64_t rest = b; rest != 0;) {
        const uint64_t next = divisor % rest;
        divisor = rest;
        rest = next;
    }
    return !__builtin_mul_overflow(a / divisor, b, multiple) && *multiple <= PLAN_LIMIT;
}

// Joins the ring of `b` to that of `a`: exchanging the successors of one node each makes one ring
// of two.
static void join_rings(plan_forest* forest, uint32_t a, uint32_t b) {
    const uint32_t after = forest->next[a];
    forest->next[a] = forest->next[b];
    forest->next[b] = after;
}

// The root must lie where each alias is aligned. Since the alias offset is a multiple of the
// alias's alignment, it is enough that the root's offset is one too.
static weir_status fold_alias(plan_forest* forest, const weir_plan_problem* problem,
                              uint32_t index) {
    const weir_plan_buffer* alias = &problem->buffers[index];
    const uint32_t root = alias->alias_of;
    uint64_t* alignment = &forest->alignment[root];
    if (!plan_common_multiple(*alignment, plan_own_alignment(problem, index), alignment)) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE,
                         "buffer %u: no offset below 2^63 aligns it and its alias %u", root, index);
    }
    const weir_plan_buffer* buffer = &problem->buffers[root];
    if ((buffer->flags & WEIR_PLAN_FIXED) && buffer->fixed_offset % *alignment != 0) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT,
                         "buffer %u: fixed offset %llu does not align its alias %u", root,
                         (unsigned long long)buffer->fixed_offset, index);
    }
    forest->owner[index] = root;
    forest->within[index] = alias->alias_offset;
    join_rings(forest, root, index);
    return WEIR_OK;
}

weir_status plan_forest_make(plan_scratch* scratch, const weir_plan_problem* problem,
                             plan_forest* forest) {
    const uint32_t count = problem->buffer_count;
    WEIR_TRY(scratch_take(scratch, &forest->owner, count));
    WEIR_TRY(scratch_take(scratch, &forest->within, count));
    WEIR_TRY(scratch_take(scratch, &forest->next, count));
    WEIR_TRY(scratch_take(scratch, &forest->placed_on, count));
    WEIR_TRY(scratch_take(scratch, &forest->taken, count));
    WEIR_TRY(scratch_take(scratch, &forest->alignment, count));
    for (uint32_t i = 0; i < count; ++i) {
        forest->owner[i] = i;
        forest->next[i] = i;
        forest->placed_on[i] = WEIR_PLAN_NONE;
        forest->alignment[i] = plan_own_alignment(problem, i);
    }
    for (uint32_t i = 0; i < count; ++i) {
        if (problem->buffers[i].flags & WEIR_PLAN_ALIAS) {
            WEIR_TRY(fold_alias(forest, problem, i));
        }
    }
    return WEIR_OK;
}

// A buffer without intervals lives always; time reaches its last moment nowhere else.
static weir_plan_interval interval_of(const weir_plan_problem* problem, uint32_t buffer,
                                      uint32_t index) {
    const weir_plan_buffer* live = &problem->buffers[buffer];
    return live->interval_count == 0 ? (weir_plan_interval){INT64_MIN, INT64_MAX}
                                     : problem->intervals[live->interval_begin + index];
}

// How many intervals `interval_of` gives for a buffer.
static uint32_t interval_count_of(const weir_plan_problem* problem, uint32_t buffer) {
    const uint32_t count = problem->buffers[buffer].interval_count;
    return count > 0 ? count : 1;
}

static bool intervals_meet(weir_plan_interval a, weir_plan_interval b) {
    return a.begin < b.end && b.begin < a.end && a.begin < a.end && b.begin < b.end;
}

// The rule of the problem, on single buffers: what a class adds to it does not count between the
// members that are to become one class.
bool plan_buffers_conflict(const weir_plan_problem* problem, uint32_t a, uint32_t b) {
    if (problem->precedes) {
        const size_t words = weir_plan_row_words(problem->buffer_count);
        return !row_has(problem->precedes + a * words, b) &&
               !row_has(problem->precedes + b * words, a);
    }
    for (uint32_t i = 0; i < interval_count_of(problem, a); ++i) {
        for (uint32_t j = 0; j < interval_count_of(problem, b); ++j) {
            if (intervals_meet(interval_of(problem, a, i), interval_of(problem, b, j))) {
                return true;
            }
        }
    }
    return false;
}

// Pairs are few, and looked for only where two members do share bytes at the same time.
static bool is_listed(const weir_plan_problem* problem, uint32_t buffer, uint32_t on) {
    for (uint32_t i = 0; i < problem->in_place_count; ++i) {
        if (problem->in_place[i].buffer == buffer && problem->in_place[i].on == on) {
            return true;
        }
    }
    return false;
}

// Were the class of `upper` moved to `shift` in that of `lower`.
static bool share_bytes(const plan_forest* forest, const weir_plan_problem* problem, uint32_t upper,
                        uint32_t lower, uint64_t shift) {
    const uint64_t upper_begin = forest->within[upper] + shift;
    const uint64_t lower_begin = forest->within[lower];
    const uint64_t upper_size = problem->buffers[upper].byte_size;
    const uint64_t lower_size = problem->buffers[lower].byte_size;
    return upper_size > 0 && lower_size > 0 && upper_begin < lower_begin + lower_size &&
           lower_begin < upper_begin + upper_size;
}

// Whether `buffer`, placed at `shift` of the other class, takes the bytes of its member `lower`.
static bool takes(const plan_forest* forest, const weir_plan_problem* problem, uint32_t buffer,
                  uint32_t lower, uint64_t shift) {
    return share_bytes(forest, problem, buffer, lower, shift) &&
           plan_buffers_conflict(problem, buffer, lower) && forest->within[lower] == shift &&
           is_listed(problem, buffer, lower);
}

// Whether member `upper` of the class of `buffer` and member `lower` of the other class may lie
// together: in different bytes or at different times, or as a pair in place, one on each.
static bool members_agree(const plan_forest* forest, const weir_plan_problem* problem,
                          uint32_t buffer, uint32_t upper, uint32_t lower, uint64_t shift) {
    return !share_bytes(forest, problem, upper, lower, shift) ||
           !plan_buffers_conflict(problem, upper, lower) ||
           (upper == buffer && !forest->taken[lower] &&
            takes(forest, problem, buffer, lower, shift));
}

// Whether the class of `buffer` fits into that of `on` at `shift`, but for the conflicts of
// members.
static bool fits(const plan_forest* forest, const weir_plan_problem* problem, uint32_t buffer,
                 uint32_t on, uint64_t shift, uint64_t* alignment) {
    const uint32_t owner = forest->owner[on];
    const weir_plan_buffer* upper = &problem->buffers[buffer];
    const weir_plan_buffer* root = &problem->buffers[owner];
    if (forest->owner[buffer] != buffer || owner == buffer || forest->taken[on] ||
        upper->pool != root->pool || upper->byte_size == 0 || problem->buffers[on].byte_size == 0) {
        return false;
    }
    if (shift > root->byte_size || upper->byte_size > root->byte_size - shift ||
        shift % forest->alignment[buffer] != 0 ||
        !plan_common_multiple(forest->alignment[owner], forest->alignment[buffer], alignment)) {
        return false;
    }
    // A fixed buffer goes only where it already lies.
    const bool root_fixed = (root->flags & WEIR_PLAN_FIXED) != 0;
    if (root_fixed && root->fixed_offset % *alignment != 0) {
        return false;
    }
    return !(upper->flags & WEIR_PLAN_FIXED) ||
           (root_fixed && root->fixed_offset + shift == upper->fixed_offset);
}

// All or nothing: first every two members are judged, then everything is changed. The cost is the
// product of the sizes of two classes, which are chains of a few views.
bool plan_forest_merge(plan_forest* forest, const weir_plan_problem* problem,
                       const weir_plan_in_place* pair) {
    const uint32_t owner = forest->owner[pair->on];
    const uint64_t shift = forest->within[pair->on];
    uint64_t alignment = 1;
    if (!fits(forest, problem, pair->buffer, pair->on, shift, &alignment)) {
        return false;
    }
    uint32_t upper = pair->buffer;
    uint32_t lower = owner;
    do {
        do {
            if (!members_agree(forest, problem, pair->buffer, upper, lower, shift)) {
                return false;
            }
            lower = forest->next[lower];
        } while (lower != owner);
        upper = forest->next[upper];
    } while (upper != pair->buffer);
    do {
        forest->taken[lower] |= takes(forest, problem, pair->buffer, lower, shift);
        lower = forest->next[lower];
    } while (lower != owner);
    do {
        forest->owner[upper] = owner;
        forest->within[upper] += shift;
        upper = forest->next[upper];
    } while (upper != pair->buffer);
    join_rings(forest, owner, pair->buffer);
    forest->alignment[owner] = alignment;
    forest->placed_on[pair->buffer] = pair->on;
    forest->taken[pair->on] = true;
    return true;
}

// By pool first, for pools are planned apart; owners are different, so the order is total.
static int compare_classes(const void* a, const void* b) {
    const plan_class* x = a;
    const plan_class* y = b;
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    return x->owner < y->owner ? -1 : x->owner > y->owner;
}

// Classes of roots without bytes do not exist, and neither do their members: an alias lies within
// its root, and so has none either.
static weir_status list_classes(plan_scratch* scratch, const weir_plan_problem* problem,
                                const plan_forest* forest, plan_instance* instance) {
    const uint32_t count = problem->buffer_count;
    WEIR_TRY(scratch_take(scratch, &instance->classes, count));
    WEIR_TRY(scratch_take(scratch, &instance->class_of, count));
    for (uint32_t i = 0; i < count; ++i) {
        const weir_plan_buffer* buffer = &problem->buffers[i];
        if (forest->owner[i] == i && buffer->byte_size > 0) {
            instance->classes[instance->class_count++] =
                (plan_class){.byte_size = buffer->byte_size,
                             .alignment = forest->alignment[i],
                             .fixed = (buffer->flags & WEIR_PLAN_FIXED) != 0,
                             .fixed_offset = buffer->fixed_offset,
                             .pool = buffer->pool,
                             .owner = i};
        }
    }
    if (instance->class_count > 0) {
        qsort(instance->classes, instance->class_count, sizeof *instance->classes, compare_classes);
    }
    for (uint32_t c = 0; c < instance->class_count; ++c) {
        instance->class_of[instance->classes[c].owner] = c;
    }
    for (uint32_t i = 0; i < count; ++i) {
        // Owners map to themselves, so the order of the loop does not matter.
        instance->class_of[i] = problem->buffers[i].byte_size > 0
                                    ? instance->class_of[forest->owner[i]]
                                    : WEIR_PLAN_NONE;
    }
    return WEIR_OK;
}

static int compare_intervals(const void* a, const void* b) {
    const weir_plan_interval* x = a;
    const weir_plan_interval* y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return x->end < y->end ? -1 : x->end > y->end;
}

// Sorts spans, drops empty ones and merges those that touch; returns how many are left.
static uint32_t merge_spans(weir_plan_interval* spans, uint32_t count) {
    qsort(spans, count, sizeof *spans, compare_intervals);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const weir_plan_interval span = spans[i];
        if (span.begin >= span.end) {
            continue;
        }
        if (kept > 0 && span.begin <= spans[kept - 1].end) {
            if (span.end > spans[kept - 1].end) {
                spans[kept - 1].end = span.end;
            }
        } else {
            spans[kept++] = span;
        }
    }
    return kept;
}

// Collects the life of a class: that of each member with bytes.
static uint32_t gather_spans(const weir_plan_problem* problem, const plan_forest* forest,
                             uint32_t owner, weir_plan_interval* spans) {
    uint32_t count = 0;
    uint32_t member = owner;
    do {
        if (problem->buffers[member].byte_size > 0) {
            for (uint32_t i = 0; i < interval_count_of(problem, member); ++i) {
                spans[count++] = interval_of(problem, member, i);
            }
        }
        member = forest->next[member];
    } while (member != owner);
    return merge_spans(spans, count);
}

// Spans of the classes of one pool follow each other, in the order of classes: sections rely on
// that.
static weir_status make_spans(plan_scratch* scratch, const weir_plan_problem* problem,
                              const plan_forest* forest, plan_instance* instance) {
    size_t total = 0;
    for (uint32_t i = 0; i < problem->buffer_count; ++i) {
        total += interval_count_of(problem, i);
    }
    if (total > UINT32_MAX) {
        return WEIR_FAIL(WEIR_OUT_OF_RANGE, "%zu intervals in all, at most 2^32 - 1 can be planned",
                         total);
    }
    WEIR_TRY(scratch_take(scratch, &instance->spans, total));
    uint32_t first = 0;
    for (uint32_t c = 0; c < instance->class_count; ++c) {
        plan_class* block = &instance->classes[c];
        block->first_span = first;
        block->span_count = gather_spans(problem, forest, block->owner, instance->spans + first);
        const weir_plan_interval* spans = instance->spans + first;
        for (uint32_t i = 0; i < block->span_count; ++i) {
            const uint64_t length = (uint64_t)spans[i].end - (uint64_t)spans[i].begin;
            block->spread =
                block->spread > UINT64_MAX - length ? UINT64_MAX : block->spread + length;
        }
        if (block->span_count > 0) {
            block->birth = spans[0].begin;
            block->death = spans[block->span_count - 1].end;
        }
        first += block->span_count;
    }
    return WEIR_OK;
}

// Spans of either class rise and are apart, so one walk along both is enough.
bool plan_spans_meet(const plan_instance* instance, const plan_class* a, const plan_class* b) {
    uint32_t i = 0;
    uint32_t j = 0;
    while (i < a->span_count && j < b->span_count) {
        const weir_plan_interval x = instance->spans[a->first_span + i];
        const weir_plan_interval y = instance->spans[b->first_span + j];
        if (x.begin < y.end && y.begin < x.end) {
            return true;
        }
        if (x.end <= y.end) {
            ++i;
        } else {
            ++j;
        }
    }
    return false;
}

weir_status plan_instance_make(plan_scratch* scratch, const weir_plan_problem* problem,
                               const plan_forest* forest, plan_instance* instance) {
    *instance = (plan_instance){0};
    WEIR_TRY(list_classes(scratch, problem, forest, instance));
    if (!problem->precedes) {
        return make_spans(scratch, problem, forest, instance);
    }
    return plan_rows_make(scratch, problem, forest, instance);
}
