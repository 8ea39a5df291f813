#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/bits.h"
#include "base/checked.h"
#include "plan/plan_internal.h"

// The plan at the upper bounds says which of two conflicting buffers lies below the other. Keeping
// that and letting everything sink as far as it goes is a valid plan for any smaller sizes, and no
// offset is higher than planned: by induction from the bottom, what a buffer rests on has sunk or
// shrunk, and its planned offset was aligned. Of the pairs only those are kept that no chain of
// others implies; chains hold when their links shrink to nothing.

typedef unsigned long long ull; // for messages

// Buffers that keep their distance: a root, its aliases and what is placed on them.
typedef struct stack_class {
    uint64_t planned; // offset at the upper bounds
    uint64_t alignment;
    uint64_t now;  // offset
    uint64_t size; // bytes
    uint32_t root;
    uint32_t pool;
    uint32_t block;
    uint32_t first_below; // in weir_plan_symbolic.below
    uint32_t below_count;
    bool is_fixed;
} stack_class;

struct weir_plan_symbolic {
    plan_scratch scratch; // of all arrays
    weir_plan* plan;
    weir_plan_sizes sizes; // copied
    uint32_t buffer_count;
    const weir_plan_entry* entries; // at the upper bounds
    uint32_t* class_of;             // per buffer
    uint64_t* within;               // per buffer: offset in its class
    stack_class* classes;           // by pool, block and planned offset
    uint32_t class_count;
    uint32_t* below; // classes that others rest on
};

// constant + the sum of factor * value over all symbols; false where that passes 2^64.
static bool size_at(const weir_plan_sizes* sizes, uint32_t buffer, const uint64_t* values,
                    uint64_t* byte_size) {
    uint64_t sum = sizes->constants[buffer];
    for (uint32_t s = 0; s < sizes->symbol_count; ++s) {
        uint64_t product = 0;
        if (!mul_u64(sizes->factors[(size_t)buffer * sizes->symbol_count + s], values[s],
                     &product) ||
            !add_u64(sum, product, &sum)) {
            return false;
        }
    }
    *byte_size = sum;
    return true;
}

// Sizes at the upper bounds make a problem as any other.
static weir_status plan_upper(weir_plan_symbolic* made, const weir_plan_problem* problem) {
    weir_plan_buffer* buffers = NULL;
    scratch_block* mark = made->scratch.last;
    WEIR_TRY(scratch_take(&made->scratch, &buffers, problem->buffer_count));
    weir_status status = WEIR_OK;
    for (uint32_t i = 0; i < problem->buffer_count && status == WEIR_OK; ++i) {
        buffers[i] = problem->buffers[i];
        if (!size_at(&made->sizes, i, made->sizes.upper, &buffers[i].byte_size)) {
            status = WEIR_FAIL(WEIR_OUT_OF_RANGE,
                               "buffer %u: its size at the upper bounds passes 2^64", i);
        }
    }
    if (status == WEIR_OK) {
        weir_plan_problem upper = *problem;
        upper.buffers = buffers;
        status = weir_plan_create(&made->scratch.allocator, &upper, &made->plan);
    }
    plan_scratch_release(&made->scratch, mark);
    return status;
}

// The caller's arrays need not outlive the call, and resizing may come much later.
static weir_status copy_words(plan_scratch* scratch, const uint64_t* from, size_t count,
                              const uint64_t** to) {
    uint64_t* copy = NULL;
    WEIR_TRY(scratch_take(scratch, &copy, count));
    if (count > 0) {
        memcpy(copy, from, count * sizeof *copy);
    }
    *to = copy;
    return WEIR_OK;
}

static uint32_t root_of(const weir_plan_symbolic* made, const weir_plan_problem* problem,
                        uint32_t buffer) {
    for (;;) {
        if (problem->buffers[buffer].flags & WEIR_PLAN_ALIAS) {
            buffer = problem->buffers[buffer].alias_of;
        } else if (made->entries[buffer].placed_on != WEIR_PLAN_NONE) {
            buffer = made->entries[buffer].placed_on;
        } else {
            return buffer;
        }
    }
}

static int compare_classes(const void* a, const void* b) {
    const stack_class* x = a;
    const stack_class* y = b;
    if (x->pool != y->pool) {
        return x->pool < y->pool ? -1 : 1;
    }
    if (x->block != y->block) {
        return x->block < y->block ? -1 : 1;
    }
    if (x->planned != y->planned) {
        return x->planned < y->planned ? -1 : 1;
    }
    return x->root < y->root ? -1 : x->root > y->root;
}

static void list_classes(weir_plan_symbolic* made, const weir_plan_problem* problem) {
    for (uint32_t i = 0; i < made->buffer_count; ++i) {
        if (root_of(made, problem, i) == i) {
            const weir_plan_entry* entry = &made->entries[i];
            made->classes[made->class_count++] =
                (stack_class){.planned = entry->byte_offset,
                              .alignment = plan_own_alignment(problem, i),
                              .root = i,
                              .pool = entry->pool,
                              .block = entry->block,
                              .is_fixed = (problem->buffers[i].flags & WEIR_PLAN_FIXED) != 0};
        }
    }
    if (made->class_count > 0) {
        qsort(made->classes, made->class_count, sizeof *made->classes, compare_classes);
    }
    for (uint32_t c = 0; c < made->class_count; ++c) {
        made->class_of[made->classes[c].root] = c;
    }
    for (uint32_t i = 0; i < made->buffer_count; ++i) {
        const uint32_t root = root_of(made, problem, i);
        stack_class* block = &made->classes[made->class_of[root]];
        made->class_of[i] = made->class_of[root];
        made->within[i] = made->entries[i].byte_offset - made->entries[root].byte_offset;
        // Planning has found one below the limit.
        plan_common_multiple(block->alignment, plan_own_alignment(problem, i), &block->alignment);
        // A member that may not move holds the others.
        block->is_fixed |= (problem->buffers[i].flags & WEIR_PLAN_FIXED) != 0;
    }
}

// Marks, per pair of classes with bytes in one block, whether any members conflict. All pairs of
// buffers are looked at, once for all sizes: what has no bytes at the upper bounds never has any.
static void fill_conflicts(const weir_plan_symbolic* made, const weir_plan_problem* problem,
                           uint64_t* conflicts) {
    const size_t words = bits_words(made->class_count);
    for (uint32_t a = 0; a < made->buffer_count; ++a) {
        for (uint32_t b = 0; b < a; ++b) {
            const uint32_t x = made->class_of[a];
            const uint32_t y = made->class_of[b];
            if (x != y && made->entries[a].byte_size > 0 && made->entries[b].byte_size > 0 &&
                made->classes[x].pool == made->classes[y].pool &&
                made->classes[x].block == made->classes[y].block &&
                plan_buffers_conflict(problem, a, b)) {
                bits_set(conflicts + (x > y ? x : y) * words, x > y ? y : x);
            }
        }
    }
}

// From the topmost class below down, so that each is met after all that could imply it. Row c of
// `implied` becomes all that c rests on, in one step or more. What is listed is the transitive
// reduction of "conflicts with and lies above", which a relation without cycles has one of (Aho,
// Garey and Ullman 1972). Counts where there is no room yet.
static uint32_t list_below(weir_plan_symbolic* made, const uint64_t* conflicts, uint64_t* implied) {
    const size_t words = bits_words(made->class_count);
    uint32_t total = 0;
    memset(implied, 0, made->class_count * words * sizeof *implied);
    for (uint32_t c = 0; c < made->class_count; ++c) {
        uint64_t* row = implied + c * words;
        made->classes[c].first_below = total;
        for (uint32_t d = c; d-- > 0;) {
            if (!bits_has(conflicts + c * words, d) || bits_has(row, d)) {
                continue;
            }
            for (size_t w = 0; w < words; ++w) {
                row[w] |= implied[d * words + w];
            }
            bits_set(row, d);
            if (made->below) {
                made->below[total] = d;
            }
            ++total;
        }
        made->classes[c].below_count = total - made->classes[c].first_below;
    }
    return total;
}

// In two passes over the same relation: the first counts, the second writes into room of that size.
static weir_status find_below(weir_plan_symbolic* made, const weir_plan_problem* problem) {
    plan_scratch work = {.allocator = made->scratch.allocator};
    uint64_t* conflicts = NULL;
    uint64_t* implied = NULL;
    const size_t row_bytes = bits_words(made->class_count) * sizeof *conflicts;
    weir_status status = plan_scratch_take(&work, made->class_count, row_bytes, (void**)&conflicts);
    if (status == WEIR_OK) {
        status = plan_scratch_take(&work, made->class_count, row_bytes, (void**)&implied);
    }
    if (status == WEIR_OK) {
        fill_conflicts(made, problem, conflicts);
        status = scratch_take(&made->scratch, &made->below, list_below(made, conflicts, implied));
    }
    if (status == WEIR_OK) {
        list_below(made, conflicts, implied);
    }
    plan_scratch_release(&work, NULL);
    return status;
}

static weir_status make(weir_plan_symbolic* made, const weir_plan_problem* problem,
                        const weir_plan_sizes* sizes) {
    plan_scratch* scratch = &made->scratch;
    const size_t count = problem->buffer_count;
    const size_t symbols = sizes->symbol_count;
    made->sizes.symbol_count = sizes->symbol_count;
    WEIR_TRY(copy_words(scratch, sizes->constants, count, &made->sizes.constants));
    WEIR_TRY(copy_words(scratch, sizes->factors, count * symbols, &made->sizes.factors));
    WEIR_TRY(copy_words(scratch, sizes->upper, symbols, &made->sizes.upper));
    WEIR_TRY(plan_upper(made, problem));
    made->entries = weir_plan_entries(made->plan, &made->buffer_count);
    WEIR_TRY(scratch_take(scratch, &made->class_of, count));
    WEIR_TRY(scratch_take(scratch, &made->within, count));
    WEIR_TRY(scratch_take(scratch, &made->classes, count));
    list_classes(made, problem);
    return find_below(made, problem);
}

weir_status weir_plan_symbolic_create(const weir_allocator* allocator,
                                      const weir_plan_problem* problem,
                                      const weir_plan_sizes* sizes, weir_plan_symbolic** plan) {
    const bool has_buffers = problem->buffer_count == 0 || (problem->buffers && sizes->constants);
    const bool has_symbols = sizes->symbol_count == 0 ||
                             (sizes->upper && (problem->buffer_count == 0 || sizes->factors));
    if (!has_buffers || !has_symbols) {
        return WEIR_FAIL(WEIR_INVALID_ARGUMENT, "%u buffers and %u symbols, but an array is NULL",
                         problem->buffer_count, sizes->symbol_count);
    }
    weir_plan_symbolic* made = NULL;
    WEIR_TRY(object_new(allocator, &made));
    if (allocator) {
        made->scratch.allocator = *allocator;
    }
    const weir_status status = make(made, problem, sizes);
    if (status != WEIR_OK) {
        weir_plan_symbolic_destroy(made);
        return status;
    }
    *plan = made;
    return WEIR_OK;
}

void weir_plan_symbolic_destroy(weir_plan_symbolic* plan) {
    if (!plan) {
        return;
    }
    const weir_allocator allocator = plan->scratch.allocator;
    weir_plan_destroy(plan->plan);
    plan_scratch_release(&plan->scratch, NULL);
    object_free(&allocator, plan);
}

const weir_plan* weir_plan_symbolic_upper(const weir_plan_symbolic* plan) {
    return plan->plan;
}

// Sizes of all entries, and of each class the end of its topmost member.
static void size_entries(weir_plan_symbolic* plan, const uint64_t* values,
                         weir_plan_entry* entries) {
    for (uint32_t c = 0; c < plan->class_count; ++c) {
        plan->classes[c].size = 0;
    }
    for (uint32_t i = 0; i < plan->buffer_count; ++i) {
        stack_class* block = &plan->classes[plan->class_of[i]];
        entries[i] = plan->entries[i];
        entries[i].byte_size = 0;
        size_at(&plan->sizes, i, values, &entries[i].byte_size); // at most what was planned
        const uint64_t end = entries[i].byte_size > 0 ? plan->within[i] + entries[i].byte_size : 0;
        block->size = end > block->size ? end : block->size;
    }
}

// Lets every class sink onto what it rests on. Classes come by planned offset, so that what one
// rests on has its offset already. None ends above its planned place, where all sums and multiples
// were below the limit: nothing here can overflow.
static void sink(weir_plan_symbolic* plan) {
    for (uint32_t c = 0; c < plan->class_count; ++c) {
        stack_class* block = &plan->classes[c];
        uint64_t floor = 0;
        for (uint32_t b = 0; b < block->below_count; ++b) {
            const stack_class* under = &plan->classes[plan->below[block->first_below + b]];
            const uint64_t top = under->now + under->size;
            floor = top > floor ? top : floor;
        }
        block->now = block->planned;
        if (!block->is_fixed && block->alignment > 1) {
            align_u64(floor, block->alignment, &block->now);
        } else if (!block->is_fixed) {
            block->now = floor;
        }
    }
}

// The heights of all blocks together; the classes of one follow each other.
static uint64_t sum_heights(const weir_plan_symbolic* plan) {
    uint64_t sum = 0;
    uint64_t height = 0;
    for (uint32_t c = 0; c < plan->class_count; ++c) {
        const stack_class* block = &plan->classes[c];
        if (c > 0 && (block->pool != block[-1].pool || block->block != block[-1].block)) {
            sum += height;
            height = 0;
        }
        const uint64_t top = block->size > 0 ? block->now + block->size : 0;
        height = top > height ? top : height;
    }
    return sum + height;
}

// Linear in buffers times symbols and in the pairs that were kept, and without memory of its own:
// this is done before a pass.
weir_status weir_plan_resize(weir_plan_symbolic* plan, const uint64_t* values,
                             weir_plan_entry* entries, uint64_t* peak) {
    for (uint32_t s = 0; s < plan->sizes.symbol_count; ++s) {
        if (values[s] > plan->sizes.upper[s]) {
            return WEIR_FAIL(WEIR_OUT_OF_RANGE, "symbol %u is %llu, planned for at most %llu", s,
                             (ull)values[s], (ull)plan->sizes.upper[s]);
        }
    }
    size_entries(plan, values, entries);
    sink(plan);
    for (uint32_t i = 0; i < plan->buffer_count; ++i) {
        entries[i].byte_offset = plan->classes[plan->class_of[i]].now + plan->within[i];
    }
    if (peak) {
        *peak = sum_heights(plan);
    }
    return WEIR_OK;
}
