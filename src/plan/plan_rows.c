#include "base/bits.h"
#include "plan/plan_internal.h"

// The rows of a partial order over classes. They are quadratic in bits, so nothing here looks at
// one pair at a time: relations are joined word by word, along rows and, transposed, along columns.

// The buffers that all members of a class precede.
static void common_row(const weir_plan_problem* problem, const plan_forest* forest, uint32_t owner,
                       uint64_t* row) {
    const size_t words = bits_words(problem->buffer_count);
    for (size_t w = 0; w < words; ++w) {
        row[w] = UINT64_MAX;
    }
    uint32_t member = owner;
    do {
        if (problem->buffers[member].byte_size > 0) {
            for (size_t w = 0; w < words; ++w) {
                row[w] &= problem->precedes[member * words + w];
            }
        }
        member = forest->next[member];
    } while (member != owner);
}

// A class precedes another when each of its members precedes each of the other's; that is again a
// partial order.
static weir_status make_order(plan_scratch* scratch, const weir_plan_problem* problem,
                              const plan_forest* forest, plan_instance* instance) {
    const size_t count = instance->class_count;
    const size_t words = instance->row_words;
    const size_t buffers = problem->buffer_count;
    uint64_t* common = NULL; // per class: the buffers that it precedes
    uint64_t* column = NULL; // per buffer: the classes that precede it
    WEIR_TRY(
        plan_scratch_take(scratch, count, bits_words(buffers) * sizeof *common, (void**)&common));
    WEIR_TRY(plan_scratch_take(scratch, buffers, words * sizeof *column, (void**)&column));
    for (size_t c = 0; c < count; ++c) {
        common_row(problem, forest, instance->classes[c].owner, common + c * bits_words(buffers));
    }
    weir_bits_transpose(common, count, buffers, column);
    for (size_t c = 0; c < count; ++c) {
        uint64_t* row = instance->follows + c * words;
        const uint32_t owner = instance->classes[c].owner;
        for (size_t w = 0; w < words; ++w) {
            row[w] = column[owner * words + w];
        }
        for (uint32_t i = forest->next[owner]; i != owner; i = forest->next[i]) {
            for (size_t w = 0; w < words && problem->buffers[i].byte_size > 0; ++w) {
                row[w] &= column[i * words + w];
            }
        }
    }
    weir_bits_transpose(instance->follows, count, count, instance->precedes);
    return WEIR_OK;
}

// Classes of one pool lie together: [first, end) are those that a class can conflict with.
static void fill_conflicts(plan_instance* instance, uint32_t first, uint32_t end) {
    const size_t words = instance->row_words;
    for (uint32_t c = first; c < end; ++c) {
        plan_class* block = &instance->classes[c];
        const uint64_t* before = instance->follows + c * words;
        const uint64_t* after = instance->precedes + c * words;
        uint64_t* row = instance->conflicts + c * words;
        for (size_t w = first / 64; w <= (end - 1) / 64; ++w) {
            row[w] = ~(before[w] | after[w]);
        }
        row[first / 64] &= UINT64_MAX << (first % 64);
        row[(end - 1) / 64] &= UINT64_MAX >> (63 - (end - 1) % 64);
        bits_clear(row, c);
        block->spread = bits_count(row, words);
        block->birth = bits_count(before, words);
    }
}

weir_status plan_rows_make(plan_scratch* scratch, const weir_plan_problem* problem,
                           const plan_forest* forest, plan_instance* instance) {
    const uint32_t count = instance->class_count;
    instance->row_words = weir_plan_row_words(count);
    const size_t row_bytes = instance->row_words * sizeof(uint64_t);
    WEIR_TRY(plan_scratch_take(scratch, count, row_bytes, (void**)&instance->precedes));
    WEIR_TRY(plan_scratch_take(scratch, count, row_bytes, (void**)&instance->follows));
    WEIR_TRY(plan_scratch_take(scratch, count, row_bytes, (void**)&instance->conflicts));
    scratch_block* mark = scratch->last;
    const weir_status status = make_order(scratch, problem, forest, instance);
    plan_scratch_release(scratch, mark);
    WEIR_TRY(status);
    for (uint32_t first = 0; first < count;) {
        uint32_t end = first + 1;
        while (end < count && instance->classes[end].pool == instance->classes[first].pool) {
            ++end;
        }
        fill_conflicts(instance, first, end);
        first = end;
    }
    return WEIR_OK;
}
