// Which buffers precede which: the partial order that planning works on where waits are edges.
#include "schedule/schedule.h"

#include <string.h>

#include "base/bits.h"
#include "plan/plan_scratch.h"

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

// What the walk along the dispatches knows. A buffer with one last use is over for whatever waits
// for that use; one whose last uses run side by side is pending until the order has joined them.
typedef struct over_walk {
    const weir_schedule* schedule;
    schedule_bits over; // per dispatch: the buffers whose every access is complete before it starts
    bool* at_once;      // per buffer: whether it has one last use
    weir_value* value_of; // per buffer
    uint64_t* pending;    // a row of buffers
} over_walk;

// Adds the buffers that end with `from`, a predecessor of `to`, and all that are over by then.
static void inherit_over(const over_walk* walk, uint32_t to, uint32_t from) {
    const weir_schedule* schedule = walk->schedule;
    uint64_t* target = walk->over.words + to * walk->over.row_words;
    const uint64_t* source = walk->over.words + from * walk->over.row_words;
    for (size_t w = 0; w < walk->over.row_words; w++) {
        target[w] |= source[w];
    }
    const schedule_dispatch* dispatch = &schedule->dispatches.items[from];
    for (uint32_t i = 0; i < dispatch->operand_count; i++) {
        const weir_value root = schedule->operands.items[dispatch->operand_begin + i].root;
        const uint32_t buffer = schedule->buffers[root];
        if (buffer != WEIR_PLAN_NONE && walk->at_once[buffer] &&
            schedule->uses.items[schedule->uses.begins[root + 1] - 1] == from) {
            bits_set(target, buffer);
        }
    }
}

// Asks for each pending buffer whether the order has joined its last uses by now.
static void join_pending(const over_walk* walk, uint32_t dispatch) {
    uint64_t* row = walk->over.words + dispatch * walk->over.row_words;
    for (size_t w = 0; w < walk->over.row_words; w++) {
        for (uint64_t rest = walk->pending[w] & ~row[w]; rest != 0; rest &= rest - 1) {
            const size_t buffer = w * 64 + bits_lowest(rest);
            if (all_uses_precede(walk->schedule, walk->value_of[buffer], dispatch)) {
                bits_set(row, buffer);
            }
        }
    }
}

static void find_over(const over_walk* walk) {
    const weir_schedule* schedule = walk->schedule;
    for (uint32_t d = 0; d < schedule->dispatches.count; d++) {
        for (uint32_t e = schedule->edges.begins[d]; e < schedule->edges.begins[d + 1]; e++) {
            inherit_over(walk, d, schedule->edges.items[e]);
        }
        join_pending(walk, d);
        const schedule_dispatch* dispatch = &schedule->dispatches.items[d];
        for (uint32_t i = 0; i < dispatch->operand_count; i++) {
            const weir_value root = schedule->operands.items[dispatch->operand_begin + i].root;
            const uint32_t buffer = schedule->buffers[root];
            if (buffer != WEIR_PLAN_NONE && !walk->at_once[buffer] &&
                schedule->uses.items[schedule->uses.begins[root + 1] - 1] == d) {
                bits_set(walk->pending, buffer);
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

static weir_status start_walk(weir_schedule* schedule, plan_scratch* scratch, over_walk* walk) {
    const size_t count = schedule->plan_buffers.count;
    walk->schedule = schedule;
    WEIR_TRY(scratch_take(scratch, &walk->at_once, count));
    WEIR_TRY(scratch_take(scratch, &walk->value_of, count));
    WEIR_TRY(scratch_take(scratch, &walk->pending, bits_words(count)));
    WEIR_TRY(weir_schedule_bits_new(&schedule->allocator, schedule->dispatches.count, count,
                                    &walk->over));
    for (weir_value value = 0; value < schedule->values.count; value++) {
        const uint32_t buffer = schedule->buffers[value];
        if (buffer != WEIR_PLAN_NONE) {
            walk->value_of[buffer] = value;
            walk->at_once[buffer] = ends_at_last_use(schedule, value);
        }
    }
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
    plan_scratch scratch = {.allocator = schedule->allocator};
    over_walk walk = {0};
    weir_status status = start_walk(schedule, &scratch, &walk);
    if (status == WEIR_OK) {
        find_over(&walk);
        status = transpose_order(schedule, &walk.over);
    }
    weir_schedule_bits_free(&schedule->allocator, &walk.over);
    plan_scratch_release(&scratch, NULL);
    return status;
}
