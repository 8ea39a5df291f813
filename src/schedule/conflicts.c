// Which buffers precede which: the partial order that planning works on where waits are edges.
#include "schedule/schedule.h"

#include <string.h>

#include "base/bits.h"

// Whether all other uses of a value come before its last one by the order alone.
static bool ends_at_last_use(const weir_schedule* schedule, weir_value value) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, value, &count);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (!schedule_bit(&schedule->ancestors, uses[count - 1], uses[i])) {
            return false;
        }
    }
    return true;
}

static bool all_uses_precede(const weir_schedule* schedule, weir_value value, uint32_t dispatch) {
    uint32_t count = 0;
    const uint32_t* uses = schedule_uses_of(schedule, value, &count);
    for (uint32_t i = count; i-- > 0;) {
        if (!schedule_bit(&schedule->ancestors, dispatch, uses[i])) {
            return false;
        }
    }
    return true;
}

// Adds the buffers that end with `from`, a predecessor of `to`, and all that are over by then.
static void inherit_over(const weir_schedule* schedule, schedule_bits* over, const bool* at_once,
                         uint32_t to, uint32_t from) {
    uint64_t* target = over->words + to * over->row_words;
    const uint64_t* source = over->words + from * over->row_words;
    for (size_t w = 0; w < over->row_words; w++) {
        target[w] |= source[w];
    }
    const schedule_dispatch* dispatch = &schedule->dispatches.items[from];
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const weir_value root = schedule->operands.items[dispatch->operand_begin + i].root;
        const uint32_t buffer = schedule->buffers[root];
        if (buffer == WEIR_PLAN_NONE || !at_once[buffer]) {
            continue;
        }
        if (schedule->uses.items[schedule->uses.begins[root + 1] - 1] == from) {
            bits_set(target, buffer);
        }
    }
}

// Fills `over`: per dispatch the buffers whose every access is complete before it starts. A buffer
// with one last use is over for whatever waits for that use; only those whose last uses run side by
// side must be asked for, dispatch by dispatch, until the order has joined them.
static void find_over(const weir_schedule* schedule, schedule_bits* over, const bool* at_once) {
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        for (uint32_t e = schedule->edges.begins[d]; e < schedule->edges.begins[d + 1]; e++) {
            inherit_over(schedule, over, at_once, d, schedule->edges.items[e]);
        }
    }
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const uint32_t buffer = schedule->buffers[value];
        if (buffer == WEIR_PLAN_NONE || at_once[buffer]) {
            continue;
        }
        const uint32_t last = schedule->uses.items[schedule->uses.begins[value + 1] - 1];
        for (uint32_t d = last + 1; d < schedule->dispatches.count; d++) {
            if (all_uses_precede(schedule, value, d)) {
                schedule_bit_set(over, d, buffer);
            }
        }
    }
}

// Fills, per buffer, those that are over before any access of it starts.
static void find_before(const weir_schedule* schedule, const schedule_bits* over,
                        schedule_bits* before) {
    for (weir_value value = 0; value < schedule->values.count; value++) {
        if (schedule->buffers[value] == WEIR_PLAN_NONE) {
            continue;
        }
        uint32_t count = 0;
        const uint32_t* uses = schedule_uses_of(schedule, value, &count);
        uint64_t* row = before->words + schedule->buffers[value] * before->row_words;
        memcpy(row, over->words + uses[0] * over->row_words, over->row_words * sizeof *row);
        for (uint32_t i = 1; i < count; i++) {
            const uint64_t* other = over->words + uses[i] * over->row_words;
            for (size_t w = 0; w < over->row_words; w++) {
                row[w] &= other[w];
            }
        }
    }
}

static weir_status transpose_order(weir_schedule* schedule, const schedule_bits* over) {
    const size_t count = schedule->plan_buffers.count;
    schedule_bits before = {0};
    WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, count, count, &before));
    find_before(schedule, over, &before);
    weir_bits_transpose(before.words, count, count, schedule->precedes.words);
    weir_schedule_bits_free(&schedule->allocator, &before);
    return WEIR_OK;
}

// Fills the partial order of the plan's buffers, once, from the edges between the dispatches, which
// where waits are edges are all that orders them.
weir_status weir_schedule_find_order(weir_schedule* schedule) {
    const size_t count = schedule->plan_buffers.count;
    if (schedule->precedes.words) {
        return WEIR_OK;
    }
    WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, count, count, &schedule->precedes));
    if (schedule->options.reuse == WEIR_REUSE_NONE) {
        return WEIR_OK;
    }
    schedule_bits over = {0};
    void* memory = NULL;
    WEIR_TRY(
        weir_schedule_bits_new(&schedule->allocator, schedule->dispatches.count, count, &over));
    weir_status status = weir_alloc_zeroed(&schedule->allocator, count * sizeof(bool), &memory);
    if (status == WEIR_OK) {
        bool* at_once = memory;
        for (weir_value value = 0; value < schedule->values.count; value++) {
            if (schedule->buffers[value] != WEIR_PLAN_NONE) {
                at_once[schedule->buffers[value]] = ends_at_last_use(schedule, value);
            }
        }
        find_over(schedule, &over, at_once);
        status = transpose_order(schedule, &over);
    }
    weir_free(&schedule->allocator, memory, count * sizeof(bool), _Alignof(max_align_t));
    weir_schedule_bits_free(&schedule->allocator, &over);
    return status;
}
